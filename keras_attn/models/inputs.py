"""The inputs of the recipes' models: ids by name, and for packed rows also segment ids and positions."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_attn.backend import is_concrete
from keras_attn.base.tensors import as_array, is_array, to_tensor
from keras_attn.base.types import ArrayLike, Tensor

INPUT_AXES = {
    f"{side}{part}": axes
    for side, axes in (("source", "BS"), ("target", "BT"))
    for part in ("", "_segment_ids", "_positions")
} | {"segments": "BS"}


def named_inputs(
    inputs: ArrayLike, sides: tuple[str, ...], optional: tuple[str, ...] | None = None
) -> dict[str, Tensor]:
    """Returns a model's inputs as a dictionary of arrays or tensors by name.

    Args:
        inputs: A dictionary; or a list or tuple with one tensor per side; or a single tensor for one side.
        sides: Names of the ids that the model reads: `("source", "target")` or `("target",)`.
        optional: Names of further inputs of which all or none are given; None for those of packed rows.

    Raises:
        ValueError: For unknown or missing names, incomplete packed inputs, or rows of different lengths.
    """
    return {name: as_array(name, value) for name, value in by_name(inputs, sides, optional).items()}


def by_name(inputs: ArrayLike, sides: tuple[str, ...], optional: tuple[str, ...] | None = None) -> dict[str, ArrayLike]:
    """Returns the inputs as a dictionary, after checking their names; arguments as for `named_inputs`."""
    if not isinstance(inputs, dict):
        inputs = dict(zip(sides, in_order(inputs, sides), strict=True))
    further = packing_names(sides) if optional is None else optional
    unknown = sorted(str(name) for name in inputs if name not in (*sides, *further))
    missing = [name for name in sides if inputs.get(name) is None]
    if unknown or missing:
        what = f"unknown: {unknown}" if unknown else f"missing: {missing}"
        also = f", with packed rows also {further}" if optional is None else f" and may have {further}" * bool(further)
        raise ValueError(f"`inputs` must have the names {sides}{also}. Received: {sorted(map(str, inputs))}, {what}.")
    inputs = {name: value for name, value in inputs.items() if value is not None}
    given = [name for name in further if name in inputs]
    if given and len(given) < len(further):
        raise ValueError(f"Packed inputs must have all of {further}. Received: {sorted(inputs)}.")
    return inputs


def in_order(inputs: ArrayLike, sides: tuple[str, ...]) -> list[ArrayLike]:
    """Returns inputs without names as a list, one per side."""
    is_list = isinstance(inputs, (list, tuple))
    if len(sides) == 1 and is_list and not any(map(is_array, inputs)):
        return [inputs]  # the rows of ids themselves
    inputs = list(inputs) if is_list else [inputs]
    if len(inputs) != len(sides):
        raise ValueError(
            f"`inputs` must be a dictionary with the names {sides}, or one tensor for each, in this order. "
            f"Received: {len(inputs)} of them."
        )
    return inputs


def check_data(x: ArrayLike, sides: tuple[str, ...], optional: tuple[str, ...] | None = None) -> None:
    """Raises a `ValueError` for data with wrong names or rows of different lengths, if this is visible before a call.

    The call would raise it too, but on JAX an error inside Keras' training loop leaves the model
    without weights.

    Args:
        x: As for `fit`: arrays, or a data set, whose names are read from `element_spec` (of `tf.data`).
        sides, optional: As for `named_inputs`.
    """
    spec = getattr(x, "element_spec", None)
    spec = spec[0] if isinstance(spec, tuple) else spec
    if isinstance(spec, dict):
        by_name(spec, sides, optional)  # shapes and dtypes are left to `tf.data` and `tf.distribute`
    elif spec is None and isinstance(x, (dict, list, tuple)):
        named_inputs(x, sides, optional)


def packing_names(sides: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of the inputs that only packed rows have."""
    return tuple(f"{side}{part}" for side in sides for part in ("_segment_ids", "_positions"))


def split_inputs(inputs: ArrayLike, sides: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Splits `named_inputs` into two dictionaries: the ids, and the inputs that only packed rows have."""
    named = named_inputs(inputs, sides)
    return {name: named[name] for name in sides}, {name: named[name] for name in packing_names(sides) if name in named}


def whole_numbers(name: str, value: Tensor) -> Tensor:
    """Returns segment ids or positions as int32. Floats raise a `ValueError`, but not in a graph.

    Under tf.distribute, Keras traces a model once, in a graph, for the mean of the replicas' inputs.
    """
    seen = isinstance(value, (np.ndarray, keras.KerasTensor)) or is_concrete(value)
    return to_tensor(name, value, "int32") if seen else ops.cast(value, "int32")


def id_inputs(*names: str) -> dict[str, keras.KerasTensor]:
    """Returns a dictionary of symbolic inputs `[B, None]` of ids."""
    return {name: keras.Input((None,), dtype="int32", name=name) for name in names}


def at_least_one(ids: Tensor, padding_id: int = 0) -> Tensor:
    """Returns ids `[B, S]`, with one column of padding if S is 0."""
    missing = 1 - ops.shape(ids)[1]
    missing = max(missing, 0) if isinstance(missing, int) else ops.maximum(missing, 0)
    return ops.pad(ids, [[0, 0], [0, missing]], constant_values=padding_id)
