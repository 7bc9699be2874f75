"""Run under `KERAS_BACKEND=jax`: exports every model as SavedModel, with ids and what Keras answers beside it."""

import pathlib
import sys
from unittest import mock

import keras
import numpy as np

import keras_attn as ka
from keras_attn.kernels import choice
from tests.exports import subjects


def main(folder):
    for name in subjects.MODELS:
        for lengths in ("free", "fixed"):
            others = {"batch": 2, "source": 11, "target": 3} if lengths == "free" else {"batch": 2}
            model = subjects.make(name, lengths)
            write(model, folder / f"{name}-{lengths}", subjects.ids(name), subjects.ids(name, **others))
    inputs = keras.Input((13, 16), name="inputs")
    with mock.patch.dict(choice.BLOCKWISE_FROM["cpu"], {"jax-xla": {"far hidden": 64, "all": 64}}):
        model = keras.Model(inputs, ka.MultiHeadSelfAttention(2, mask=ka.Causal())(inputs))
        rng = np.random.default_rng(7)
        write(model, folder / "long", *({"inputs": rng.normal(size=(n, 13, 16)).astype("float32")} for n in (3, 2)))


def write(model, folder, *examples):
    """Exports the model to `folder/1`, and writes each example and the model's answer to it."""
    model.export(folder / "1", verbose=False)
    for number, given in enumerate(examples):
        answer = keras.ops.convert_to_numpy(model(subjects.inputs(model, given)))
        np.savez(folder / f"{number}.npz", answer=answer, **given)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
