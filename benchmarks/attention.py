"""Time and peak memory of attention, ours and other libraries, each case in a separate process.

Compares the layer (`MultiHeadSelfAttention`, dense and blockwise) with Keras'
`MultiHeadAttention` and PyTorch's `scaled_dot_product_attention` between the same linear maps:
forward, and forward with backward, batch 1, 8 heads of 64, float32. Prints a table with the
ratios to Keras in the same run, and the fraction of the machine's matrix-product rate that the
useful products (half of them under a causal mask) reach. Writes the figures as JSON.

    python benchmarks/attention.py --lengths 512 4096 --causal yes
    python benchmarks/attention.py --tune     # writes keras_attn/kernels/measured.py

The layers of Keras and ours run on the backend in `KERAS_BACKEND`, in the mode of `--compile`.
"""

import argparse
import itertools
import json
import os
import pathlib
import sys

from measuring import best_of, is_installed, peak_megabytes, product_rate, run, write_figures

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HEADS, HEAD_SIZE = 8, 64
SIZE = HEADS * HEAD_SIZE
BACKEND = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
WHO = ("keras", "dense", "blockwise", "fused", "auto", "torch")
MODES = {"tensorflow": ["graph", "xla"], "jax": ["xla"], "torch": ["eager"]}[BACKEND]
CAUSAL = {"far hidden": True, "all": False}
MEASURED = pathlib.Path(__file__).parent.parent / "keras_attn" / "kernels" / "measured.py"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=(1024, 4096, 8192), help="positions of the sequence")
    parser.add_argument(
        "--who",
        nargs="+",
        default=("keras", "blockwise", "auto", "torch"),
        choices=WHO,
        help="what to measure",
    )
    parser.add_argument("--work", nargs="+", default=["both"], choices=["forward", "both"])
    parser.add_argument("--causal", nargs="+", default=["yes"], choices=["yes", "no"])
    parser.add_argument("--compile", nargs="+", default=MODES[:1], choices=MODES, help="modes of the Keras layers")
    parser.add_argument("--free", action="store_true", help="trace with a free length (TensorFlow)")
    parser.add_argument("--window", type=int, default=None, help="number of last positions that a query sees (ours)")
    parser.add_argument("--memory-limit", type=float, default=4, help="GB of scores above which a case is left out")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    parser.add_argument(
        "--tune", action="store_true", help="find from which length blockwise is faster, and write the tables"
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
    """Measures all requested cases and prints them as a table."""
    rate = run(__file__, who="roof", length=2048)["rate"]
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
            reason = left_out(who, length, arguments.memory_limit)
            if reason:
                print(f"{work:8} {causal:6} {mode:5} {length:6} {who:>10}  left out: {reason}")
                continue
            case = {"who": who, "length": length, "work": work, "causal": causal == "yes", "mode": mode}
            row = {**case, **run(__file__, **case, window=arguments.window, free=arguments.free)}
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
    write_figures(arguments.out, rows, rate=rate)


def left_out(who, length, memory_limit):
    """Returns why a case cannot be measured, or None."""
    if who == "torch" and not is_installed("torch"):
        return "torch is not installed"
    if who in ("keras", "dense") and 3e-9 * 4 * HEADS * length**2 > memory_limit:
        return "its scores would take more than --memory-limit"
    return None


def useful_products(length, causal, work, window):
    """Returns the operations of the four linear maps and the two products of attention; backward counts twice."""
    seen = length * min(window, length) if window else length * length / (2 if causal else 1)
    return (8 * length * SIZE**2 + 4 * seen * SIZE) * (3 if work == "both" else 1)


def measure(who, length, work="both", causal=True, mode=None, window=None, free=False, repeats=5):
    """Returns the shortest time of a few calls, and their peak memory above the memory before them."""
    if who == "roof":
        return {"rate": product_rate(length)}
    if who == "device":
        return {"kind": device_kind()}
    if who == "torch":
        call = torch_call(length, work, causal)
    else:
        call = CALLS[BACKEND](keras_layer(who, length, causal, window), length, work, mode or MODES[0], free)
    before = peak_megabytes()
    seconds = best_of(call, repeats, seconds=1)
    return {"seconds": seconds, "megabytes": peak_megabytes() - before}


def device_kind():
    """Returns the kind of device that the backend runs on, for which the figures are valid."""
    from keras_attn.backend import device_kind

    return device_kind()


def keras_layer(who, length, causal, window):
    """Returns Keras' layer or ours, built, as a layer with one argument."""
    import keras

    import keras_attn as ka

    shape = (1, length, SIZE)
    if who == "keras":
        attention = keras.layers.MultiHeadAttention(HEADS, HEAD_SIZE)
        inputs = keras.Input(shape[1:], 1)
        return keras.Model(inputs, attention(inputs, inputs, use_causal_mask=causal))
    mask = ka.Causal() if causal else None
    mask = mask & ka.Window(window) if window else mask
    layer = ka.MultiHeadSelfAttention(HEADS, mask=mask, kernel=who)
    layer.build(shape)
    return layer


def tensorflow_call(layer, length, work, mode, free):
    """Returns a function that runs the layer once under TensorFlow."""
    import tensorflow as tf

    def both(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(x) ** 2)
        return [gradient[..., 0] for gradient in tape.gradient(loss, layer.trainable_variables)]

    x = tf.random.normal((1, length, SIZE))
    function = both if work == "both" else lambda x: layer(x)[0, 0]
    signature = [tf.TensorSpec((None, None, SIZE))] if free else None
    compiled = tf.function(function, input_signature=signature, jit_compile=mode == "xla", autograph=False)
    return lambda: [tensor.numpy() for tensor in tf.nest.flatten(compiled(x))]


def jax_call(layer, length, work, mode, free):
    """Returns a function that runs the layer once under JAX, compiled."""
    import jax

    weights = [variable.value for variable in layer.trainable_variables]
    state = [variable.value for variable in layer.non_trainable_variables]
    x = jax.random.normal(jax.random.key(0), (1, length, SIZE))

    def loss(weights, x):
        return (layer.stateless_call(weights, state, x)[0] ** 2).mean()

    function = jax.jit(jax.grad(loss) if work == "both" else loss)
    return lambda: jax.block_until_ready(function(weights, x))


def eager_call(layer, length, work, mode, free):
    """Returns a function that runs the layer once under PyTorch."""
    import torch

    torch.set_num_threads(os.cpu_count())
    x = torch.randn(1, length, SIZE)

    def call():
        with torch.set_grad_enabled(work == "both"):
            loss = (layer(x) ** 2).mean()
            if work == "both":
                loss.backward()
        return loss.item()

    return call


CALLS = {"tensorflow": tensorflow_call, "jax": jax_call, "torch": eager_call}


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


def tune():
    """Finds the lengths from which blockwise, and the backend's own kernel, are faster in a training step."""
    sys.path.insert(0, str(MEASURED.parent))
    import measured

    device = run(__file__, who="device", length=0)["kind"]
    for mode, far in itertools.product(MODES, CAUSAL):
        name = BACKEND + ("-xla" if mode == "xla" else "")
        case = {"mode": mode, "causal": CAUSAL[far]}
        # From 4,096 positions on dense scores are too large to be worth a few percent.
        length = shortest("blockwise", (256, 512, 768, 1024, 1536, 2048, 3072), case) or 4096
        row(measured.BLOCKWISE_FROM, device, name)[far] = length**2
        length = None if BACKEND == "tensorflow" else shortest("fused", (128, 512, 2048), case)
        row(measured.FUSED_FROM, device, name)[far] = length**2 if length else measured.NEVER
    write_tables(MEASURED, measured)
    print(f"wrote {MEASURED.name}")


def row(table, device, mode):
    """Returns the row of a table, a new one if this kind of device or mode has none."""
    return table.setdefault(device, {}).setdefault(mode, {})


def write_tables(path, measured):
    """Writes the tables to the file, and keeps the text before them."""
    text = path.read_text(encoding="utf-8")
    text = text[: text.index("BLOCKWISE_FROM")]
    for name in ("BLOCKWISE_FROM", "FUSED_FROM"):
        devices = (
            f"    {json.dumps(device)}: {{\n"
            + "".join(f"        {json.dumps(mode)}: {as_source(cells)},\n" for mode, cells in rows.items())
            + "    },\n"
            for device, rows in getattr(measured, name).items()
        )
        text += f"{name}: Thresholds = {{\n{''.join(devices)}}}\n"
    path.write_text(text, encoding="utf-8")


def shortest(who, lengths, case):
    """Returns the shortest length from which a kernel is not slower than the dense one, or None."""
    found = None
    for length in reversed(lengths):
        seconds = {each: run(__file__, who=each, length=length, **case)["seconds"] for each in ("dense", who)}
        ratio = seconds[who] / seconds["dense"]
        print(f"{BACKEND} {case} length {length}: {who} takes {ratio:.2f} of the time of dense", flush=True)
        if ratio > 1:
            break
        found = length
    return found


def as_source(row):
    """Returns a row of a table as Python source."""
    cells = (
        f'"{kind}": {"NEVER" if least == float("inf") else f"{round(least**0.5)}**2"}' for kind, least in row.items()
    )
    return "{" + ", ".join(cells) + "}"


if __name__ == "__main__":
    main()
