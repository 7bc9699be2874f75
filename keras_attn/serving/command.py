"""The console command `keras-attn`: check, inspect, call, time or make a SavedModel."""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import reprlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_attn.base.types import ArrayLike
from keras_attn.serving.checking import check
from keras_attn.serving.converting import add_arguments, run_convert
from keras_attn.serving.folders import version_folder
from keras_attn.serving.replay import load_text_ops, switch_xla_off
from keras_attn.serving.tensor_specs import TensorSpec, encode_inputs
from keras_attn.serving.warmup import read_warmup


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 1 if the model cannot be served, or 2 for bad arguments."""
    arguments = parse_arguments(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, TypeError, OSError, ImportError, tf.errors.OpError) as error:
        print(f"keras-attn: {error}", file=sys.stderr)
        return 2


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the arguments of the command line; `run` is the function of the command."""
    parser = argparse.ArgumentParser(prog="keras-attn", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        function: Callable[[argparse.Namespace], int],
        text: str,
        path: str = "a SavedModel, or a folder of numbered versions",
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(function.__name__.removeprefix("run_"), help=text, description=text)
        command.add_argument("path", type=pathlib.Path, help=path)
        command.set_defaults(run=function)
        return command

    command = add(run_check, "Check that TF Serving can run the model, with the same answers as at its export.")
    command.add_argument("--timeout", type=float, default=600, help="seconds that loading and answering may take")
    add(run_inspect, "Show signatures, assets and sizes.")
    command = add(run_predict, "Call the model and print its outputs.")
    command.add_argument("rows", nargs="+", metavar="TEXT", help="a text, or JSON where the input is not one text")
    command.add_argument("--signature", default="serving_default", help="name of the signature")
    text = "Write a SavedModel for TF Serving from a local folder of Hugging Face `transformers`."
    add_arguments(add(run_convert, text, "a folder with config.json, *.safetensors and tokenizer.json or vocab.txt"))
    command = add(run_bench, "Time serving_default, without XLA, on its warm-up examples or on the given texts.")
    command.add_argument("--text", action="append", help="text to call the model with; may be repeated")
    command.add_argument("--batch-sizes", type=positive, nargs="+", default=[1, 8, 32], help="rows of a batch")
    command.add_argument("--seconds", type=float, default=3.0, help="how long to time each batch size")
    return parser.parse_args(argv)


def run_check(arguments: argparse.Namespace) -> int:
    """Checks the model and prints the report."""
    report = check(arguments.path, arguments.timeout)
    print(report)
    return 0 if report.ok else 1


def run_inspect(arguments: argparse.Namespace) -> int:
    """Prints signatures, files and sizes."""
    folder = version_folder(arguments.path)
    model = load(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    print(f"{folder}: {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")
    for name, signature in model.signatures.items():
        print(f"  {name}")
        for kind, specs in (("in ", inputs_of(signature)), ("out", signature.structured_outputs)):
            for key, spec in specs.items():
                print(f"    {kind} {key:20} {spec.dtype.name:8} {spec.shape}")
    for path in sorted(files):
        print(f"  {path.relative_to(folder)!s:50} {path.stat().st_size:12,} bytes")
    print(f"  {len(list(read_warmup(folder)))} warm-up requests")
    return 0


def run_predict(arguments: argparse.Namespace) -> int:
    """Prints the outputs of each row as JSON."""
    model = load(version_folder(arguments.path))
    signature = model.signatures.get(arguments.signature)
    if signature is None:
        raise ValueError(f"`--signature` must be one of {sorted(model.signatures)}. Received: {arguments.signature!r}.")
    answers = {name: tensor.numpy() for name, tensor in signature(**batch_of(arguments.rows, signature)).items()}
    for row in range(len(arguments.rows)):
        print(json.dumps({name: plain(values[row]) for name, values in answers.items()}, ensure_ascii=False))
    return 0


def run_bench(arguments: argparse.Namespace) -> int:
    """Prints rows a second and latencies for each batch size."""
    folder = version_folder(arguments.path)
    signature = load(folder).signatures["serving_default"]
    requests = [request.inputs for request, _ in read_warmup(folder) if request.signature == "serving_default"]
    if arguments.text:
        requests = [
            {name: each.numpy() for name, each in batch_of([text], signature).items()} for text in arguments.text
        ]
    if not requests:
        raise ValueError("`--text` must be given: the model has no warm-up examples.")
    print(f"{'rows':>5} {'rows/s':>10} {'median ms':>10} {'99% ms':>10}")
    for size in arguments.batch_sizes:
        rows = [requests[i % len(requests)] for i in range(size)]
        batch = {name: tf.constant(stacked_rows([row[name] for row in rows])) for name in rows[0]}
        signature(**batch)
        seconds = durations(functools.partial(signature, **batch), arguments.seconds)
        middle, late = np.percentile(seconds, [50, 99])
        print(f"{size:5} {size / np.mean(seconds):10,.1f} {1e3 * middle:10,.1f} {1e3 * late:10,.1f}")
    return 0


def positive(text: str) -> int:
    """Returns a number of rows from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {text!r}")
    return int(text)


def durations(run: Callable[[], object], budget: float) -> list[float]:
    """Returns the seconds of each run: as many runs as the budget in seconds allows, at least three."""
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < budget:
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return seconds


def stacked_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Joins batches of one row, `[1, ...]`; shorter ones are padded with zeros."""
    longest = np.max([row.shape for row in rows], axis=0)
    padded = [
        np.pad(row, [(0, 0), *((0, most - size) for most, size in zip(longest[1:], row.shape[1:]))]) for row in rows
    ]
    return np.concatenate(padded)


def load(folder: pathlib.Path) -> tf.Module:
    """Returns the SavedModel, after switching XLA off as a server does."""
    switch_xla_off()
    load_text_ops()
    return tf.saved_model.load(str(folder))


def inputs_of(signature: tf.types.experimental.ConcreteFunction) -> dict[str, tf.TensorSpec]:
    """Returns the specifications of a signature's inputs by name."""
    return signature.structured_input_signature[1]


def batch_of(texts: Sequence[str], signature: tf.types.experimental.ConcreteFunction) -> dict[str, tf.Tensor]:
    """Returns the tensors of rows from the command line by input, checked like those of a client."""
    specs = inputs_of(signature)
    rows = [row_of(text, specs) for text in texts]
    wanted = {name: TensorSpec(spec.dtype.name, tuple(spec.shape)) for name, spec in specs.items()}
    arrays = encode_inputs({name: [row[name] for row in rows] for name in specs}, wanted, signature.name)
    return {name: tf.constant(array, specs[name].dtype) for name, array in arrays.items()}


def row_of(text: str, specs: Mapping[str, tf.TensorSpec]) -> dict[str, ArrayLike]:
    """Returns one row of the inputs: the text itself for a signature of one text, else its JSON."""
    [first, *others] = specs.values()
    if not others and first.dtype == tf.string and first.shape.rank == 1:
        return {first.name: text}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"A row must be JSON for the inputs {sorted(specs)}. Received: {reprlib.repr(text)}."
        ) from error
    row = value if isinstance(value, dict) else {first.name: value}
    if sorted(row) != sorted(specs):
        raise ValueError(f"A row must have the inputs {sorted(specs)}. Received: {sorted(row)}.")
    return row


def plain(value: ArrayLike) -> ArrayLike:
    """Returns an array as nested lists of numbers and `str`, which JSON can represent."""
    listed = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(listed, bytes):
        return listed.decode("utf-8", "replace")
    return [plain(each) for each in listed] if isinstance(listed, list) else listed


if __name__ == "__main__":
    sys.exit(main())
