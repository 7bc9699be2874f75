"""The mean of several checkpoints of one model, which often performs better than the last checkpoint."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Iterable

import h5py
import keras
import numpy as np

WEIGHTS = ".weights.h5"
SUFFIXES = WEIGHTS, ".keras"


def average_weights(model: keras.Model, paths: Iterable[str | os.PathLike[str]]) -> None:
    """Sets the weights of a model to the mean of those in several checkpoints.

    `w = 1/n sum_i w_i`, summed in float64. A compiled model's optimizer gets its state from the
    last checkpoint, if it holds one. Random generators keep their state, which Keras does not save.
    To average during training instead, use `use_ema=True` of Keras' optimizers.

    Args:
        model: A built model.
        paths: Files that `save_weights` (`.weights.h5`) or `save` (`.keras`) wrote for this model.

    Raises:
        ValueError: For an empty list of paths, other kinds of files, weights of another model, weights that
            are not finite, and integer weights (a quantised model). The model is then unchanged.

    Example:
    >>> import keras, os, tempfile
    >>> from keras_attn.training import average_weights
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [os.path.join(folder, f"{value}.weights.h5") for value in (1, 4)]
    ...     for path, value in zip(paths, (1.0, 4.0)):
    ...         _ = model.weights[0].assign([[value]])
    ...         model.save_weights(path)
    ...     average_weights(model, paths)
    >>> keras.ops.convert_to_numpy(model.weights[0])
    array([[2.5]], dtype=float32)

    References:
        Vaswani et al. 2017, arXiv:1706.03762, section 6.1; Popel and Bojar 2018, Training Tips
        for the Transformer Model, arXiv:1804.00247, section 4.10.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise ValueError(f"`paths` must be a list of paths. Received: {os.fspath(paths)!r}.")
    files = [os.fspath(path) for path in paths]
    if not files:
        raise ValueError("`paths` must hold at least one checkpoint. Received: paths=[].")
    for path in files:
        if not path.endswith(SUFFIXES):
            raise ValueError(f"`paths` must end in one of {SUFFIXES}. Received: {path!r}.")
    for weight in model.weights:
        if not keras.backend.is_float_dtype(weight.dtype):
            raise ValueError(
                f"`model` must have only floating-point weights. Received: {weight.path} of {weight.dtype}."
            )
    variables = [*model.variables, *(model.optimizer.variables if model.compiled else ())]
    before = [keras.ops.convert_to_numpy(variable) for variable in variables]
    try:
        means = mean_weights(model, files)
    except BaseException:  # also after Ctrl-C
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        raise
    for weight, mean in zip(model.weights, means, strict=True):
        weight.assign(mean)


def mean_weights(model: keras.Model, paths: list[str]) -> list[np.ndarray]:
    """Returns the means of the weights as float64 arrays; loads each of the files into the model."""
    sums = [np.zeros(weight.shape, "float64") for weight in model.weights]
    with tempfile.TemporaryDirectory() as folder:
        own = os.path.join(folder, f"own{WEIGHTS}")  # Keras determines the names in the file
        model.save_weights(own)
        wanted = shapes_in(own)
    for path in paths:
        found = shapes_in(path)
        for place in sorted(wanted.keys() | found.keys()):  # Keras ignores weights that a model lacks
            if wanted.get(place) != found.get(place):
                raise ValueError(
                    f"`paths` must be checkpoints of `model`, in which {place} is {shape_text(wanted.get(place))}. "
                    f"Received: {path!r}, in which it is {shape_text(found.get(place))}."
                )
        model.load_weights(path)
        for total, weight in zip(sums, model.weights, strict=True):
            value = keras.ops.convert_to_numpy(weight).astype("float64")
            if not np.isfinite(value).all():
                raise ValueError(f"`paths` must hold finite weights. Received: {path!r} with {weight.path}.")
            total += value
    return [total / len(paths) for total in sums]


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Returns the text of an error message for the shape of a weight, or for a missing weight."""
    return "missing" if shape is None else f"of shape {shape}"


def shapes_in(path: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the weights in a file, except for an optimizer's, by their paths in the file."""
    shapes: dict[str, tuple[int, ...]] = {}

    def visit(place: str, node: h5py.Dataset | h5py.Group) -> None:
        if isinstance(node, h5py.Dataset) and "optimizer" not in place.split("/"):
            shapes[place] = node.shape

    if path.endswith(WEIGHTS):
        with h5py.File(path) as file:
            file.visititems(visit)
    else:
        with zipfile.ZipFile(path) as archive:
            weights = io.BytesIO(archive.read(f"model{WEIGHTS}"))  # seeking in an archive is slow
        with h5py.File(weights) as file:
            file.visititems(visit)
    return shapes
