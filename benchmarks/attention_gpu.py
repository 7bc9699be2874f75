"""Time, rate and memory of attention on a GPU through JAX: ours, Keras', Flax' and JAX' own, in one process.

Kernels take queries, keys and values: ours (`auto`, `fused`, `blockwise`, `dense`), `flax`, and JAX' own function with
windows and lengths as arguments, by cuDNN (`cudnn`, the bound of the others) and by XLA (`xla`). Layers take the inputs
and include their linear maps: ours (`layer`) and Keras' (`keras`, and `keras-flash` with `flash_attention=True`).
Prints the ratio to `cudnn` for kernels and to `keras` for layers, of the same run, and the useful operations per
second: hidden scores do not count, and a backward pass counts 2.5 times the forward pass (2 times in linear maps).
Memory is what the compiled function needs beside its arguments. What is missing or fails is named, and skipped.

    python benchmarks/attention_gpu.py --lengths 2048 8192 32768 --out figures.json
    python benchmarks/attention_gpu.py --tiny       # a test on a CPU, in seconds
"""

import argparse
import concurrent.futures
import importlib.metadata
import itertools
import os
import pathlib
import time
from typing import NamedTuple

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")

import jax
import jax.numpy as jnp
import keras
import numpy as np
from measuring import write_figures

import keras_attn as ka
from keras_attn import kernels, masks

KERNELS = ("cudnn", "auto", "fused", "blockwise", "dense", "flax", "xla")
LAYERS = ("keras", "keras-flash", "layer")
OURS = ("auto", "fused", "blockwise", "dense")
BUILDS_SCORES = "xla", "flax", "dense"


class Case(NamedTuple):
    """What is masked, and the heads."""

    causal: bool = True
    window: int | None = None
    padded: bool = False
    num_heads: int = 16
    num_kv_heads: int = 16
    head_size: int = 64

    def num_visible(self, length):
        """Returns the number of scores that a head needs."""
        real = length * 3 // 4 if self.padded else length
        last = np.minimum(np.arange(real) + 1, self.window or real) if self.causal else np.full(real, real)
        return int(last.sum())

    def operations(self, tokens, length, work, layer):
        """Returns the useful operations of a batch with so many tokens."""
        width = self.num_heads * self.head_size
        scores = 4 * (tokens // length) * width * self.num_visible(length)
        maps = 4 * tokens * width * (width + self.num_kv_heads * self.head_size) if layer else 0
        return scores * (3.5 if work == "both" else 1) + maps * (3 if work == "both" else 1)


CASES = {
    "causal": Case(),
    "window": Case(window=1024),
    "padding": Case(causal=False, padded=True),
    "causal-padding": Case(padded=True),
    "grouped": Case(num_kv_heads=4),
    "grouped-128": Case(num_kv_heads=4, head_size=128),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192, 32768], help="positions of a sequence")
    parser.add_argument("--who", nargs="+", default=KERNELS + LAYERS, choices=KERNELS + LAYERS, help="what to measure")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--work", nargs="+", default=["forward", "both"], choices=["forward", "both"])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--tokens", type=int, default=16384, help="least number of positions in a batch")
    parser.add_argument("--memory-limit", type=float, default=40, help="GB of scores above which a case is left out")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after this time no new case is begun")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    parser.add_argument("--tiny", action="store_true", help="small sizes, as a test")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.lengths, arguments.tokens, arguments.work = [64], 128, ["both"]
        sizes = {"num_heads": 4, "head_size": 8}
        for name, case in CASES.items():
            window, num_kv_heads = case.window and 16, case.num_kv_heads // 4
            CASES[name] = case._replace(window=window, num_kv_heads=num_kv_heads, **sizes)
    compare(arguments)


def compare(arguments):
    """Measures all requested cases, prints them as a table, and writes them after each group."""
    began, rows = time.perf_counter(), []
    print(device())
    print(f"{'case':14} {'length':>6} {'work':7} {'who':>11} {'ms':>9} {'ratio':>6} {'TFLOP/s':>8} {'MB':>8}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for length, name in itertools.product(arguments.lengths, arguments.cases):
            if time.perf_counter() - began > arguments.seconds:
                print(f"{name:14} {length:6} left out: {arguments.seconds:.0f} seconds are over", flush=True)
                continue
            for row in measure(name, length, arguments, pool):
                rows.append(row)
                print(line(row), flush=True)
            write_figures(arguments.out, rows, device=jax.devices()[0].device_kind)


def device():
    """Returns the device and the versions, as text."""
    names = ("jax", "keras", "flax")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names if installed(name)]
    return f"{jax.devices()[0].device_kind}, {', '.join(versions)}"


def installed(name):
    """Returns whether a package is installed."""
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def measure(name, length, arguments, pool):
    """Returns the rows of a case at a length: all functions are compiled at once, and then timed one by one."""
    case = CASES[name]
    batch_size = max(1, arguments.tokens // length)
    jobs = []
    for work, who in itertools.product(arguments.work, arguments.who):
        row = {"case": name, "length": length, "batch": batch_size, "work": work, "who": who, "dtype": arguments.dtype}
        jobs.append((row, *attempt(row, prepare, who, case, batch_size, length, work, arguments)))
    jobs = [(row, inputs, lowered and pool.submit(lowered.compile)) for row, lowered, inputs in jobs]
    # A function cannot be captured as a CUDA graph, at its first calls, while another is compiled.
    concurrent.futures.wait([future for _, _, future in jobs if future is not None])
    for row, inputs, future in jobs:
        if future is not None:
            attempt(row, figures, row, case, future, inputs)
    for row, _, _ in jobs:
        peer = "keras" if row["who"] in LAYERS else "cudnn"
        same = {"work": row["work"], "who": peer}
        (base,) = [other for other, _, _ in jobs if same.items() <= other.items()] or [{}]
        row["ratio"] = row["ms"] / base["ms"] if "ms" in row and "ms" in base else None
    return [row for row, _, _ in jobs]


def attempt(row, function, *arguments):
    """Returns what the function returns; what it raises is written into the row."""
    try:
        return function(*arguments)
    except Exception as error:  # whatever a peer raises, or the device when its memory is full
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return None, None


def figures(row, case, future, inputs):
    """Writes time, rate and memory of a compiled function into the row."""
    compiled = future.result()
    memory = compiled.memory_analysis()
    row["megabytes"] = (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 2**20
    row["ms"] = 1e3 * seconds(lambda: compiled(*inputs))
    tokens = row["batch"] * row["length"]
    operations = case.operations(tokens, row["length"], row["work"], row["who"] in LAYERS)
    row["teraflops"] = operations / row["ms"] / 1e9
    return None, None


def seconds(call, rounds=3, least=0.03):
    """Returns the shortest mean time of calls that are queued on the device, after two to warm up."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    jax.block_until_ready(call())
    number = min(50, max(1, round(least / (time.perf_counter() - start))))
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(number):
            outputs = call()
        jax.block_until_ready(outputs)
        found.append((time.perf_counter() - start) / number)
    return min(found)


def line(row):
    """Returns a row of the table."""
    start = f"{row['case']:14} {row['length']:6} {row['work']:7} {row['who']:>11} "
    if "error" in row:
        return f"{start} skipped: {row['error'][:110]}"
    ratio = f"{row['ratio']:6.2f}" if row["ratio"] else " " * 6
    return f"{start}{row['ms']:9.3f} {ratio} {row['teraflops']:8.1f} {row['megabytes']:8.0f}"


def prepare(who, case, batch_size, length, work, arguments):
    """Returns a function that is traced, but not compiled, and its inputs."""
    scores = 6e-9 * batch_size * case.num_heads * length**2
    if who in BUILDS_SCORES and scores > arguments.memory_limit:
        raise MemoryError(f"its scores need about {scores:.0f} GB")
    real = jnp.arange(length) < (length * 3 // 4 if case.padded else length)
    real = jnp.broadcast_to(real, (batch_size, length)) if case.padded else None
    if who in LAYERS:
        function, inputs, trained = layer_call(who, case, batch_size, length, real, arguments.dtype)
    else:
        shapes = [(batch_size, number, length, case.head_size) for number in (case.num_heads, *[case.num_kv_heads] * 2)]
        if who not in OURS:
            shapes = [(shape[0], shape[2], shape[1], shape[3]) for shape in shapes]
        keys = jax.random.split(jax.random.key(0), 3)
        inputs = [jax.random.normal(key, shape, arguments.dtype) for key, shape in zip(keys, shapes)]
        attend = our_kernel(who, case) if who in OURS else PEERS[who](who, case)
        inputs, trained = (*inputs, real), 3
        function = attend
    if work == "forward":
        return jax.jit(function).lower(*inputs), inputs

    def both(*inputs):
        """The gradients of the outputs times themselves, so that no pass is trivial."""
        outputs, gradient = jax.vjp(lambda *heads: function(*heads, *inputs[trained:]), *inputs[:trained])
        return gradient(outputs)

    return jax.jit(both).lower(*inputs), inputs


def our_kernel(who, case):
    """Returns our kernel as a function of queries, keys, values and a padding mask."""
    pattern = our_pattern(case)

    def attend(query, key, value, real):
        mask = masks.combine(pattern, masks.padding(real, real))
        return kernels.attention(query, key, value, mask=mask, kernel=who)

    return attend


def our_pattern(case):
    """Returns the static mask of a case."""
    return masks.combine(ka.Causal() if case.causal else None, ka.Window(case.window) if case.window else None)


def jax_kernel(who, case):
    """Returns JAX' own function, with windows and lengths as arguments."""

    def attend(query, key, value, real):
        lengths = None if real is None else real.sum(1, dtype="int32")
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            is_causal=case.causal,
            query_seq_lengths=lengths,
            key_value_seq_lengths=lengths,
            local_window_size=(case.window - 1, 0) if case.window else None,
            implementation=who,
        )

    return attend


def flax_kernel(who, case):
    """Returns Flax' function, which takes a mask, and as many keys as queries."""
    from flax import nnx

    repeats = case.num_heads // case.num_kv_heads

    def attend(query, key, value, real):
        key, value = (jnp.repeat(heads, repeats, axis=2) for heads in (key, value))
        return nnx.dot_product_attention(query, key, value, mask=explicit(case, query.shape[1], real))

    return attend


PEERS = {"cudnn": jax_kernel, "xla": jax_kernel, "flax": flax_kernel}


def explicit(case, length, real):
    """Returns the mask of a case as a tensor `[B or 1, 1, T, S]`."""
    distance = jnp.arange(length)[:, None] - jnp.arange(length)
    visible = (distance >= 0) | (not case.causal)
    visible &= distance < (case.window or length)
    return visible[None, None] if real is None else visible & real[:, None, :, None] & real[:, None, None]


def layer_call(who, case, batch_size, length, real, dtype):
    """Returns a layer as a function of its weights and inputs, the inputs, and the number of trained ones."""
    width = case.num_heads * case.head_size
    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    if who == "layer":
        sizes = {"num_kv_heads": case.num_kv_heads, "mask": our_pattern(case)}
        layer = ka.MultiHeadSelfAttention(case.num_heads, case.head_size, **sizes, dtype=policy)
        layer.build((batch_size, length, width))
        call = {"mask": real}
        tensors = 1
    else:
        flash = {"flash_attention": who == "keras-flash", "dtype": policy}
        if case.num_kv_heads == case.num_heads:
            layer = keras.layers.MultiHeadAttention(case.num_heads, case.head_size, **flash)
        else:
            layer = keras.layers.GroupQueryAttention(case.head_size, case.num_heads, case.num_kv_heads, **flash)
        layer.build(*[(batch_size, length, width)] * 2)
        only_causal = case.causal and not case.window and real is None
        mask = (
            None if only_causal else jnp.broadcast_to(explicit(case, length, real)[:, 0], (batch_size, length, length))
        )
        call = {"use_causal_mask": only_causal, "attention_mask": mask}
        tensors = 2
    weights = [variable.value for variable in layer.trainable_variables]
    state = [variable.value for variable in layer.non_trainable_variables]
    x = jax.random.normal(jax.random.key(0), (batch_size, length, width), dtype)

    def function(weights, x, call):
        return layer.stateless_call(weights, state, *[x] * tensors, **static, **call)[0]

    static = {name: call.pop(name) for name in list(call) if isinstance(call[name], bool)}
    return function, (weights, x, call), 2


if __name__ == "__main__":
    main()
