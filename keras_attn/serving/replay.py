"""Loads a SavedModel as TF Serving does, XLA off, and answers its warm-up requests; prints what is wrong as JSON.

Run in a process of its own, `python -m keras_attn.serving.replay FOLDER`: nothing of the model's
Python code is there to help, and switching XLA off is for good.
"""

import contextlib
import ctypes
import importlib
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

from keras_attn.serving.warmup import read_warmup

RELATIVE, ABSOLUTE = 1e-4, 1e-5  # how far an answer's numbers may be from those at the export


def main(folder):
    switch_xla_off()
    load_text_ops()
    requests = list(read_warmup(folder))  # outside of the session's graph
    problems = []
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], folder)
        for number, (request, answer) in enumerate(requests, start=1):
            signature = loaded.signature_def[request.signature]
            fed = {signature.inputs[name].name: value for name, value in request.inputs.items()}
            try:
                found = session.run({name: info.name for name, info in signature.outputs.items()}, fed)
            except tf.errors.OpError as error:
                problems.append(f"request {number} ({request.signature}): {' '.join(error.message.split())[:300]}")
                continue
            problems += [f"request {number} ({request.signature}): {text}" for text in differences(found, answer)]
    print(json.dumps({"requests": len(requests), "problems": problems}))


def switch_xla_off():
    """Does to this process what TF Serving does to its own at its start."""
    library = pathlib.Path(tf.sysconfig.get_lib()) / "libtensorflow_cc.so.2"
    ctypes.CDLL(str(library))._ZN10tensorflow21DisableXlaCompilationEv()


def load_text_ops():
    """Loads the ops of TF Text, which TF Serving links, where they are installed."""
    with contextlib.suppress(ImportError):
        importlib.import_module("tensorflow_text")


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
