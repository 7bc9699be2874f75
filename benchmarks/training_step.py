"""Seconds of a training step of the Transformer: ours and the same model of KerasHub's layers, in each mode.

Encoder and decoder have four layers of 256, feed-forward 1,024, 4 heads, 8,000 words, learned positions, norms
after the residuals, dropout 0.1; a batch has 32 rows of 64 positions, of which a quarter is padding; Adam and
Keras' cross-entropy. Each case runs in a process of its own. The models of a mode run in turn, in several
rounds, so that a busy machine slows down both; the best figure of the rounds counts. Prints the useful tokens
per second (without padding, source and target together) and their ratio to KerasHub in the same mode (above 1
is faster); the seconds to build the model, and from there to the end of the first step, which traces and
compiles, each with its ratio to KerasHub (below 1 is faster); and the peak memory of the process. Without
KerasHub (`pip install keras-hub`) it is left out, with a line that says so.

KerasHub's layers also drop attention scores, our recipe drops embeddings instead; `--dropout 0` compares both
without.

    python benchmarks/training_step.py --modes graph xla
"""

import argparse
import importlib
import itertools
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from measuring import is_installed, peak_megabytes, ratio, run, shown, write_figures

MODES = {  # whether XLA compiles the step, and the dtype policy
    "graph": (False, "float32"),
    "graph-bfloat16": (False, "mixed_bfloat16"),
    "xla": (True, "float32"),
}
WHO = {"keras-hub": "keras_hub", "ours": "keras_attn"}  # and its package
SIZES = {
    "layers": (4, "encoder blocks, and as many decoder blocks"),
    "size": (256, "size D; the feed-forward layers have four times it"),
    "heads": (4, "heads of each attention"),
    "words": (8_000, "ids of each side"),
    "batch_size": (32, "rows of a batch"),
    "length": (64, "positions of a row, of source and target each"),
    "steps": (4, "measured steps of a round"),
}


def main():
    arguments = parse_arguments()
    if arguments.one:
        print(json.dumps(measure(json.loads(arguments.one))))
        return
    print(
        f"{'mode':15} {'who':>10} {'step s':>7} {'tokens/s':>9} {'ratio':>6} {'build s':>8} {'ratio':>6} "
        f"{'first step s':>13} {'ratio':>6} {'MB':>6}"
    )
    rows = [row for mode in arguments.modes for row in compare(mode, arguments)]
    write_figures(arguments.out, rows)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=[*MODES], choices=[*MODES], help="how the step runs")
    parser.add_argument("--who", nargs="+", default=[*WHO], choices=[*WHO], help="whose layers")
    parser.add_argument("--rounds", type=int, default=2, help="rounds, each a process of its own")
    parser.add_argument("--dropout", type=float, default=0.1, help="rate of dropout")
    for name, (default, text) in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=text)
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(mode, arguments):
    """Measures all models in one mode, in turn; prints a line for each and returns the rows."""
    sizes = {name: getattr(arguments, name) for name in ("dropout", *SIZES)}
    found = {who: [] for who in arguments.who if is_installed(WHO[who])}
    for _, who in itertools.product(range(arguments.rounds), found):
        found[who].append(run(__file__, who=who, mode=mode, **sizes))
    rows = {who: {"mode": mode, "who": who, **best(figures)} for who, figures in found.items()}
    for who in arguments.who:
        if who not in rows:
            print(f"{mode:15} {who:>10}  left out: {WHO[who]} is not installed")
            continue
        row, peer = rows[who], rows.get("keras-hub", {})
        row["ratio"] = ratio(peer.get("seconds"), row["seconds"])
        row["build_ratio"], row["first_ratio"] = (ratio(row[name], peer.get(name)) for name in ("build", "first"))
        print(line(row), flush=True)
    return [*rows.values()]


def best(rounds):
    """Returns the shortest times of some rounds, and the figures of the fastest round."""
    fastest = min(rounds, key=lambda figures: figures["seconds"])
    return fastest | {name: min(figures[name] for figures in rounds) for name in ("build", "first")}


def line(row):
    """Returns a row of figures as a line of the table."""
    return (
        f"{row['mode']:15} {row['who']:>10} {row['seconds']:7.3f} {row['rate']:9.0f} {shown(row['ratio']):>6} "
        f"{row['build']:8.2f} {shown(row['build_ratio']):>6} {row['first']:13.2f} {shown(row['first_ratio']):>6} "
        f"{row['megabytes']:6.0f}"
    )


def measure(case):
    """Returns the figures of one model in one mode."""
    import keras

    importlib.import_module(WHO[case["who"]])  # not a part of the seconds to build
    jit_compile, dtype = MODES[case["mode"]]
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(0)
    source, target = batch(case)
    begin = time.perf_counter()
    model = (ours if case["who"] == "ours" else keras_hub_model)(case)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile("adam", loss, jit_compile=jit_compile)
    build = time.perf_counter() - begin
    model.train_on_batch({"source": source, "target": target}, target)
    first = time.perf_counter() - begin
    seconds = []
    for _ in range(case["steps"]):
        begin = time.perf_counter()
        model.train_on_batch({"source": source, "target": target}, target)
        seconds.append(time.perf_counter() - begin)
    useful = np.count_nonzero(source) + np.count_nonzero(target)
    return {
        "seconds": min(seconds),
        "rate": useful / min(seconds),
        "build": build,
        "first": first,
        "megabytes": peak_megabytes(),
        "weights": model.count_params(),
    }


def batch(case):
    """Returns source and target ids `[B, T]`; rows have half of the positions to all, three quarters on average."""
    rng = np.random.default_rng(0)
    rows, length = case["batch_size"], case["length"]
    lengths = np.linspace(length // 2, length, rows).round().astype(int)
    real = np.arange(length) < rng.permutation(lengths)[:, None]
    return [(rng.integers(4, case["words"], real.shape) * real).astype("int32") for _ in range(2)]


def ours(case):
    """Returns the recipe of this library."""
    from keras_attn import Learned, models

    size, words = case["size"], case["words"]
    return models.Transformer(
        words,
        words,
        case["layers"],
        size,
        case["heads"],
        4 * size,
        case["dropout"],
        position=Learned(case["length"]),
    )


def keras_hub_model(case):
    """Returns the same model of KerasHub's layers."""
    import keras
    from keras_hub import layers

    words, size, heads, dropout = (case[name] for name in ("words", "size", "heads", "dropout"))
    inputs = {side: keras.Input((None,), dtype="int32", name=side) for side in ("source", "target")}
    memory, x = (
        layers.TokenAndPositionEmbedding(words, case["length"], size, mask_zero=True)(ids) for ids in inputs.values()
    )
    for _ in range(case["layers"]):
        memory = layers.TransformerEncoder(4 * size, heads, dropout=dropout)(memory)
    for _ in range(case["layers"]):
        x = layers.TransformerDecoder(4 * size, heads, dropout=dropout)(x, memory)
    # As in our recipe: the product in the dtype of the model, logits in float32.
    logits = keras.layers.Activation("linear", dtype="float32")(keras.layers.Dense(words)(x))
    return keras.Model(inputs, logits)


if __name__ == "__main__":
    main()
