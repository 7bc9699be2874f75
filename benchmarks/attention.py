"""Seconds and peak memory of attention, ours beside its peers, each case in a process of its own.

Compares the layer (`MultiHeadSelfAttention`, dense and blockwise) with Keras'
`MultiHeadAttention` and PyTorch's `scaled_dot_product_attention` between the same linear maps,
forward and forward with backward, batch 1, 8 heads of 64, float32. Prints a table with the
ratios to Keras in the same run, and the share of the machine's matrix-product rate that the
useful products (half of them under a causal mask) reach; writes the figures as JSON.

    python benchmarks/attention.py --lengths 512 4096 --causal yes
    python benchmarks/attention.py --tune     # writes keras_attn/kernels/measured.py
"""

import argparse
import itertools
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HEADS, HEAD_SIZE = 8, 64
SIZE = HEADS * HEAD_SIZE
WHO = ("keras", "dense", "blockwise", "auto", "torch")
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
MEASURED = pathlib.Path(__file__).parent.parent / "keras_attn" / "kernels" / "measured.py"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="positions of the sequence")
    parser.add_argument("--who", nargs="+", default=WHO, choices=WHO, help="what to measure")
    parser.add_argument("--work", nargs="+", default=["forward", "both"], choices=["forward", "both"])
    parser.add_argument("--causal", nargs="+", default=["yes", "no"], choices=["yes", "no"])
    parser.add_argument("--compile", nargs="+", default=["graph"], choices=["graph", "xla"], help="of the Keras layers")
    parser.add_argument("--window", type=int, default=None, help="sees the last so many positions only (ours)")
    parser.add_argument("--memory-limit", type=float, default=12, help="GB of scores beyond which a peer is left out")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    parser.add_argument(
        "--tune", action="store_true", help="find where blockwise becomes the faster, and write it down"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(**json.loads(arguments.one))))
    elif arguments.tune:
        tune()
    else:
        compare(arguments)


def compare(arguments):
    """Measures all that was asked for and prints it as a table."""
    rate = run(who="roof", length=2048)["rate"]
    print(f"matrix products of this machine: {rate / 1e9:.0f} GFLOP/s in float32")
    print(
        f"{'work':8} {'causal':6} {'mode':5} {'length':>6} {'who':>10} "
        f"{'seconds':>9} {'ratio':>6} {'MB':>7} {'rate':>5}"
    )
    rows = []
    for work, causal, mode, length in itertools.product(
        arguments.work, arguments.causal, arguments.compile, arguments.lengths
    ):
        peer = None
        for who in arguments.who:
            quadratic = who in ("keras", "dense", "torch") and 3e-9 * 4 * HEADS * length**2 > arguments.memory_limit
            if quadratic:
                print(f"{work:8} {causal:6} {mode:5} {length:6} {who:>10}  left out: its scores would not fit")
                continue
            case = {"who": who, "length": length, "work": work, "causal": causal == "yes", "mode": mode}
            row = {**case, **run(**case, window=arguments.window)}
            peer = row["seconds"] if who == "keras" else peer
            row["ratio"] = row["seconds"] / peer if peer else None
            row["rate"] = useful_products(length, causal == "yes", work, arguments.window) / row["seconds"] / rate
            rows.append(row)
            ratio = f"{row['ratio']:6.2f}" if peer else " " * 6
            print(
                f"{work:8} {causal:6} {mode:5} {length:6} {who:>10} "
                f"{row['seconds']:9.4f} {ratio} {row['megabytes']:7.0f} {row['rate']:5.0%}",
                flush=True,
            )
    if arguments.out:
        arguments.out.write_text(json.dumps({"rate": rate, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def useful_products(length, causal, work, window):
    """Floating-point operations of the four linear maps and the two products of attention; backward is twice."""
    seen = length * min(window, length) if window else length * length / (2 if causal else 1)
    return (8 * length * SIZE**2 + 4 * seen * SIZE) * (3 if work == "both" else 1)


def run(**case):
    """Runs one case in a process of its own and returns its figures."""
    command = [sys.executable, __file__, "--one", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(who, length, work="both", causal=True, mode="graph", window=None, repeats=5):
    """Returns the least seconds of a few calls and the peak memory they took beyond what stood before."""
    if who == "roof":
        return {"rate": matrix_product_rate(length)}
    call = torch_call(length, work, causal) if who == "torch" else keras_call(who, length, work, causal, mode, window)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    seconds, begin = [], time.perf_counter()
    while len(seconds) < repeats or (time.perf_counter() - begin < 1 and len(seconds) < 200):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": min(seconds),
        "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def keras_call(who, length, work, causal, mode, window):
    """Returns a function that runs Keras' layer or ours once."""
    import keras
    import tensorflow as tf

    import keras_attn as ka

    x = tf.random.normal((1, length, SIZE))
    if who == "keras":
        layer = keras.layers.MultiHeadAttention(HEADS, HEAD_SIZE)
        layer.build(x.shape, x.shape)
        outputs = lambda x: layer(x, x, use_causal_mask=causal)  # noqa: E731
    else:
        mask = ka.Causal() if causal else None
        mask = mask & ka.Window(window) if window else mask
        layer = ka.MultiHeadSelfAttention(HEADS, mask=mask, kernel=who)
        layer.build(x.shape)
        outputs = layer

    def both(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(outputs(x) ** 2)
        return [gradient[..., 0] for gradient in tape.gradient(loss, layer.trainable_variables)]

    function = both if work == "both" else lambda x: outputs(x)[0, 0]
    compiled = tf.function(function, jit_compile=mode == "xla", autograph=False)
    return lambda: [tensor.numpy() for tensor in tf.nest.flatten(compiled(x))]


def torch_call(length, work, causal):
    """Returns a function that runs PyTorch's fused attention between two linear maps once."""
    import torch

    torch.set_num_threads(os.cpu_count())
    into, out = torch.nn.Linear(SIZE, 3 * SIZE), torch.nn.Linear(SIZE, SIZE)
    x = torch.randn(1, length, SIZE)

    def call():
        with torch.set_grad_enabled(work == "both"):
            heads = into(x).view(1, length, 3, HEADS, HEAD_SIZE).permute(2, 0, 3, 1, 4)
            attended = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=causal)
            loss = (out(attended.transpose(1, 2).reshape(1, length, SIZE)) ** 2).mean()
            if work == "both":
                loss.backward()
        return loss.item()

    return call


def matrix_product_rate(size):
    """Floating-point operations a second of a large product."""
    import tensorflow as tf

    matrix = tf.random.normal((size, size))
    product = tf.function(lambda m: tf.matmul(m, m)[0, 0])
    product(matrix)
    best = 1e9
    for _ in range(10):
        start = time.perf_counter()
        product(matrix).numpy()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def tune():
    """Finds the lengths from which blockwise is faster than dense in a training step, and writes them down."""
    found = {}
    for causal in (True, False):
        found[causal] = 4096  # from here on the dense scores are too large to be worth a few percent
        for length in (512, 768, 1024, 1536, 2048, 3072):
            seconds = {who: run(who=who, length=length, causal=causal)["seconds"] for who in ("dense", "blockwise")}
            print(
                f"causal {causal}, length {length}: blockwise / dense = {seconds['blockwise'] / seconds['dense']:.2f}"
            )
            if seconds["blockwise"] <= seconds["dense"]:
                found[causal] = length
                break
    docstring = MEASURED.read_text(encoding="utf-8").rpartition('"""')
    MEASURED.write_text(
        f"{docstring[0]}{docstring[1]}\n\n"
        f"BLOCKWISE_FROM_FAR_HIDDEN = {found[True]} * {found[True]}\n"
        f"BLOCKWISE_FROM = {found[False]} * {found[False]}\n",
        encoding="utf-8",
    )
    print(f"wrote {MEASURED.name}: {found}")


if __name__ == "__main__":
    main()
