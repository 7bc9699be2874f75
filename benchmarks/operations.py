"""Where the time of a training step and of a search goes: TensorFlow's operations by kind.

Traces a training step of `training_step.py` (ours and KerasHub's, without XLA) and a greedy search of
`decoding.py` with TensorFlow's profiler, after two runs that compile. Prints for each the milliseconds of all
operations (summed over the threads that ran them, so that two cores may exceed the time of the step), their
number, the share of matrix products, and the most expensive kinds.

    python benchmarks/operations.py --work ours --top 10
"""

import argparse
import collections
import json
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import decoding
import training_step
from measuring import is_installed, run, write_figures

WORK = {"keras-hub": "keras_hub", "ours": "keras_attn", "search": "keras_attn"}  # and its package
PRODUCTS = "MatMul"  # a part of the names of all kinds of products
NOT_OPERATIONS = {"Process", "Run", "Rendezvous"}  # of the executor


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", nargs="+", default=[*WORK], choices=[*WORK], help="whose training step, or the search"
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="dtype of the products")
    parser.add_argument("--batch", type=int, default=32, help="rows")
    parser.add_argument("--length", type=int, default=60, help="tokens that the search generates")
    parser.add_argument("--words", type=int, default=8_000, help="ids of the training step")
    parser.add_argument("--top", type=int, default=12, help="kinds to print")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(json.loads(arguments.one))))
        return
    sizes = {name: getattr(arguments, name) for name in ("dtype", "batch", "length", "words")}
    rows = []
    for work in arguments.work:
        if not is_installed(WORK[work]):
            print(f"{work}: left out, {WORK[work]} is not installed")
            continue
        row = {"work": work, **run(__file__, work=work, **sizes)}
        rows.append(row)
        show(row, arguments.top)
    write_figures(arguments.out, rows)


def show(row, top):
    """Prints the figures of one trace."""
    share = row["products"] / row["milliseconds"]
    print(f"{row['work']}: {row['milliseconds']:.0f} ms in {row['operations']} operations, {share:.0%} matrix products")
    for kind, (milliseconds, number) in list(row["kinds"].items())[:top]:
        print(f"  {kind:38} {milliseconds:8.1f} ms {number:6} {milliseconds / row['milliseconds']:6.1%}")


def measure(case):
    """Returns the figures of one trace."""
    call = search(case) if case["work"] == "search" else step(case)
    for _ in range(2):
        call()
    with tempfile.TemporaryDirectory() as folder:
        kinds = trace(call, folder)
    total = sum(milliseconds for milliseconds, _ in kinds.values())
    return {
        "milliseconds": total,
        "operations": sum(number for _, number in kinds.values()),
        "products": sum(milliseconds for kind, (milliseconds, _) in kinds.items() if PRODUCTS in kind),
        "kinds": kinds,
    }


def step(case):
    """Returns a function that trains one step."""
    import keras

    sizes = {name: default for name, (default, _) in training_step.SIZES.items()}
    sizes |= {"words": case["words"], "batch_size": case["batch"], "dropout": 0.1}
    keras.config.set_dtype_policy("float32" if case["dtype"] == "float32" else "mixed_bfloat16")
    make = training_step.ours if case["work"] == "ours" else training_step.keras_hub_model
    model, (source, target) = make(sizes), training_step.batch(sizes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile("adam", loss, jit_compile=False)
    return lambda: model.train_on_batch({"source": source, "target": target}, target)


def search(case):
    """Returns a function that generates once."""
    who = "graph" if case["dtype"] == "float32" else "graph-bfloat16"
    return decoding.our_call(who, case["batch"], 1, case["length"])


def trace(call, folder):
    """Returns milliseconds and number of the operations of a call, by kind, the most expensive first."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    tf.profiler.experimental.start(folder)
    call()
    tf.profiler.experimental.stop()
    (file,) = pathlib.Path(folder).glob("**/*.xplane.pb")
    space, found = xplane_pb2.XSpace.FromString(file.read_bytes()), collections.defaultdict(lambda: [0.0, 0])
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")  # "layer/MatMul:MatMul"
            if name and kind.isidentifier() and kind not in NOT_OPERATIONS:
                found[kind][0] += event.duration_ps / 1e9
                found[kind][1] += 1
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


if __name__ == "__main__":
    main()
