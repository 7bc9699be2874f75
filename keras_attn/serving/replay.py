"""Loads a SavedModel as TF Serving does, without XLA, and answers its warm-up requests; prints the problems as JSON.

It runs in a separate process, `python -m keras_attn.serving.replay FOLDER`, without the Python code of the model,
because XLA cannot be switched on again in a process.

The requests are sent as they are, and then as a server batches them: several of one signature merged, the
shorter ones padded with their first element as if the batch contained a longer one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from keras_attn.base.optional import optional_module
from keras_attn.serving.rules import draws, is_fillable, reads_filled_rows
from keras_attn.serving.tensor_specs import Arrays
from keras_attn.serving.warmup import Request, read_warmup

Ask: TypeAlias = Callable[[Request], Arrays]
"""Returns the answer to a request."""

RELATIVE, ABSOLUTE = 1e-4, 1e-5  # how far numbers may be from those at the export
MOST_ROWS = 8  # rows of a signature that are merged
FILLED_PLACES = 2  # positions added after the longest row, as if the batch contained a longer request


def main(folder: str) -> None:
    """Prints the numbers of requests and the problems of a SavedModel as one line of JSON."""
    switch_xla_off()
    load_text_ops()
    requests = list(read_warmup(folder))  # outside of the session's graph
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], folder)
        signatures = graph.signature_def

        def ask(request: Request) -> Arrays:
            signature = signatures[request.signature]
            fed = {signature.inputs[name].name: value for name, value in request.inputs.items()}
            return session.run({name: info.name for name, info in signature.outputs.items()}, fed)

        problems = list(replay_problems(requests, ask))
        merged: list[str] = []
        notes: list[str] = []
        for name in {} if problems else dict.fromkeys(request.signature for request, _ in requests):
            if draws(graph, name):
                continue  # samples depend on the row's position in the batch, even with a seed
            rows = [row for request, _ in requests if request.signature == name for row in split(request)]
            merged += merging_problems(name, rows[:MOST_ROWS], ask)
            filled = filling_problems(signatures[name], rows[:MOST_ROWS], ask)
            (merged if reads_filled_rows(signatures) else notes).extend(f"{name}: {text}" for text in filled)
    print(json.dumps({"requests": len(requests), "problems": problems, "merged": merged, "notes": notes}))


def replay_problems(requests: Iterable[tuple[Request, Arrays]], ask: Ask) -> Iterator[str]:
    """Yields how the answers to requests differ from those stored with them."""
    for number, (request, answer) in enumerate(requests, start=1):
        try:
            found = ask(request)
        except tf.errors.OpError as error:
            yield f"request {number} ({request.signature}): {one_line(error)}"
            continue
        yield from (f"request {number} ({request.signature}): {text}" for text in differences(found, answer))


def split(request: Request) -> list[Request]:
    """Returns one request per row; rows without elements, which a server refuses, are left out."""
    if not all(value.ndim for value in request.inputs.values()):
        return []  # no batch: another rule reports it
    rows = min(len(value) for value in request.inputs.values())
    parts = ({name: value[row : row + 1] for name, value in request.inputs.items()} for row in range(rows))
    return [Request(request.signature, part) for part in parts if all(value.size for value in part.values())]


def merging_problems(name: str, rows: Sequence[Request], ask: Ask) -> Iterator[str]:
    """Yields how answers change when rows of equal shapes are sent together."""
    shapes = [tuple(value.shape for value in row.inputs.values()) for row in rows]
    for shape in dict.fromkeys(shapes):
        group = [row for row, its_shape in zip(rows, shapes, strict=True) if its_shape == shape]
        yield from (f"{name}, rows merged: {text}" for text in merged_differences(group, group, ask))


def filling_problems(signature: SignatureDef, rows: Sequence[Request], ask: Ask) -> Iterator[str]:
    """Yields how answers change when rows are filled with their first element, merged and split again."""
    shapes = {name: info.tensor_shape for name, info in signature.inputs.items()}
    if not rows or not any(map(is_fillable, shapes.values())) or any(shape.unknown_rank for shape in shapes.values()):
        return
    free = {name: [dim.size == -1 for dim in shape.dim[1:]] for name, shape in shapes.items()}
    longest = {
        name: [
            max(row.inputs[name].shape[axis] for row in rows) + FILLED_PLACES * is_free
            for axis, is_free in enumerate(axes, start=1)
        ]
        for name, axes in free.items()
    }
    filled = [
        row._replace(inputs={name: fill(value, longest[name]) for name, value in row.inputs.items()}) for row in rows
    ]
    yield from (f"short rows filled and merged: {text}" for text in merged_differences(rows, filled, ask))


def fill(row: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Returns a row `[1, ...]` padded to greater sizes with its first element."""
    larger = np.full((1, *sizes), row.flat[0], row.dtype)
    larger[tuple(map(slice, row.shape))] = row
    return larger


def merged_differences(rows: Sequence[Request], filled: Sequence[Request], ask: Ask) -> Iterator[str]:
    """Yields how the answers to rows change when they are sent as one batch of the `filled` rows."""
    if not rows:
        return
    try:
        alone = [ask(row) for row in rows]
        joined = {name: np.concatenate([row.inputs[name] for row in filled]) for name in rows[0].inputs}
        together = ask(Request(rows[0].signature, joined))
    except tf.errors.OpError as error:
        yield one_line(error)
        return
    for number, answer in enumerate(alone):
        found = {
            name: np.atleast_1d(together[name])[number : number + 1][tuple(map(slice, wanted.shape))]
            for name, wanted in answer.items()  # a batch with longer rows may have longer answers
        }
        yield from (f"row {number + 1}: {text}" for text in differences(found, answer))


def one_line(error: tf.errors.OpError) -> str:
    """Returns the message of an operation's error in one line."""
    return " ".join(error.message.split())[:300]


def switch_xla_off() -> None:
    """Switches XLA off in this process, as TF Serving does when it starts."""
    library = pathlib.Path(tf.sysconfig.get_lib()) / "libtensorflow_cc.so.2"
    ctypes.CDLL(str(library))._ZN10tensorflow21DisableXlaCompilationEv()


def load_text_ops() -> None:
    """Loads the ops of TF Text, which TF Serving links, if they are installed."""
    with contextlib.suppress(ImportError):
        optional_module("tensorflow_text", "text")


def differences(found: Arrays, answer: Arrays) -> Iterator[str]:
    """Yields differences from the answer stored at the export; numbers may differ by rounding errors."""
    for name, wanted in answer.items():
        got = np.asarray(found[name])
        if got.shape != wanted.shape:
            yield f"`{name}` has the shape {list(got.shape)} instead of {list(wanted.shape)}"
        elif np.issubdtype(wanted.dtype, np.floating):
            if not np.allclose(got, wanted, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True):
                yield f"`{name}` differs by {np.max(np.abs(got - wanted)):.1e}"
        elif not np.array_equal(got, wanted):
            yield f"`{name}` differs"


if __name__ == "__main__":
    main(sys.argv[1])
