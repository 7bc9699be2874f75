"""Loads a SavedModel as TF Serving does, XLA off, and answers its warm-up requests; prints what is wrong as JSON.

Run in a process of its own, `python -m keras_attn.serving.replay FOLDER`: nothing of the model's
Python code is there to help, and switching XLA off is for good.

The requests are asked as they are, and then as a server's batching asks them: several of one
signature merged, the shorter ones filled with their first element as if a longer one was there.
"""

import contextlib
import ctypes
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

from keras_attn.base.optional import optional_module
from keras_attn.serving.rules import draws, is_fillable, reads_filled_rows
from keras_attn.serving.warmup import Request, read_warmup

RELATIVE, ABSOLUTE = 1e-4, 1e-5  # how far an answer's numbers may be from those at the export
MOST_ROWS = 8  # of a signature that are merged
FILLED_PLACES = 2  # that a neighbour is longer than the longest row


def main(folder):
    switch_xla_off()
    load_text_ops()
    requests = list(read_warmup(folder))  # outside of the session's graph
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], folder)
        signatures = graph.signature_def

        def ask(request):
            signature = signatures[request.signature]
            fed = {signature.inputs[name].name: value for name, value in request.inputs.items()}
            return session.run({name: info.name for name, info in signature.outputs.items()}, fed)

        problems = list(replay_problems(requests, ask))
        merged, notes = [], []
        for name in {} if problems else dict.fromkeys(request.signature for request, _ in requests):
            if draws(graph, name):
                continue  # by the row's place in the batch, also with a seed
            rows = [row for request, _ in requests if request.signature == name for row in split(request)]
            merged += merging_problems(name, rows[:MOST_ROWS], ask)
            filled = filling_problems(signatures[name], rows[:MOST_ROWS], ask)
            (merged if reads_filled_rows(signatures) else notes).extend(f"{name}: {text}" for text in filled)
    print(json.dumps({"requests": len(requests), "problems": problems, "merged": merged, "notes": notes}))


def replay_problems(requests, ask):
    """Yields how the answers to requests differ from those stored beside them."""
    for number, (request, answer) in enumerate(requests, start=1):
        try:
            found = ask(request)
        except tf.errors.OpError as error:
            yield f"request {number} ({request.signature}): {shortened(error)}"
            continue
        yield from (f"request {number} ({request.signature}): {text}" for text in differences(found, answer))


def split(request):
    """Returns a request's rows, requests themselves; none where an input has no elements, which a server refuses."""
    if not all(value.ndim for value in request.inputs.values()):
        return []  # no batch, which another rule says
    rows = min(len(value) for value in request.inputs.values())
    parts = ({name: value[row : row + 1] for name, value in request.inputs.items()} for row in range(rows))
    return [Request(request.signature, part) for part in parts if all(value.size for value in part.values())]


def merging_problems(name, rows, ask):
    """Yields how answers change where rows of equal shapes are asked together."""
    shapes = [tuple(value.shape for value in row.inputs.values()) for row in rows]
    for shape in dict.fromkeys(shapes):
        group = [row for row, its_shape in zip(rows, shapes, strict=True) if its_shape == shape]
        yield from (f"{name}, rows merged: {text}" for text in merged_differences(group, group, ask))


def filling_problems(signature, rows, ask):
    """Yields how answers change where rows are filled with their first element, merged and split again."""
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


def fill(row, sizes):
    """Returns a row `[1, ...]` in greater sizes, with its first element behind what it held."""
    larger = np.full((1, *sizes), row.flat[0], row.dtype)
    larger[tuple(map(slice, row.shape))] = row
    return larger


def merged_differences(rows, filled, ask):
    """Yields how the answers to rows change when they are asked in one batch, as `filled` has them."""
    if not rows:
        return
    try:
        alone = [ask(row) for row in rows]
        joined = {name: np.concatenate([row.inputs[name] for row in filled]) for name in rows[0].inputs}
        together = ask(Request(rows[0].signature, joined))
    except tf.errors.OpError as error:
        yield shortened(error)
        return
    for number, answer in enumerate(alone):
        found = {
            name: np.atleast_1d(together[name])[number : number + 1][tuple(map(slice, wanted.shape))]
            for name, wanted in answer.items()  # a batch with longer rows may have longer answers
        }
        yield from (f"row {number + 1}: {text}" for text in differences(found, answer))


def shortened(error):
    """Returns what an operation failed with, in one line."""
    return " ".join(error.message.split())[:300]


def switch_xla_off():
    """Does to this process what TF Serving does to its own at its start."""
    library = pathlib.Path(tf.sysconfig.get_lib()) / "libtensorflow_cc.so.2"
    ctypes.CDLL(str(library))._ZN10tensorflow21DisableXlaCompilationEv()


def load_text_ops():
    """Loads the ops of TF Text, which TF Serving links, where they are installed."""
    with contextlib.suppress(ImportError):
        optional_module("tensorflow_text", "text")


def differences(found, answer):
    """Yields what differs from the answers stored at the export: numbers beyond rounding, anything else at all."""
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
