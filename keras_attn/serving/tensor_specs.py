"""The tensors that a served signature takes and returns: read from metadata, checked, converted to arrays and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, TypedDict

import numpy as np

from keras_attn.base.types import ArrayLike, Shape
from keras_attn.serving.errors import InvalidRequest

Arrays: TypeAlias = dict[str, np.ndarray]
"""Arrays by the names of a signature's inputs or outputs."""

_DTYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}
_KINDS = {"b": 0, "i": 1, "u": 1, "f": 2}  # numbers fit into their own and higher kinds, if the values fit


class TensorSpec(NamedTuple):
    """Dtype and shape of a served tensor.

    Args:
        dtype: Name of the dtype, `"string"` for text and bytes.
        shape: Tuple with None for free sizes; None where the rank is free.
    """

    dtype: str
    shape: Shape | None

    def __str__(self) -> str:
        return f"{self.dtype} of {'any shape' if self.shape is None else f'shape {self.shape}'}"


class SignatureSpec(TypedDict):
    """The tensors of a signature, by name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class DimJson(TypedDict, total=False):
    """One axis of a `TensorShapeProto` as JSON; -1 for a free size."""

    size: str


class ShapeJson(TypedDict, total=False):
    """A `TensorShapeProto` as JSON."""

    dim: list[DimJson]
    unknown_rank: bool


class TensorInfoJson(TypedDict, total=False):
    """A `TensorInfo` as JSON."""

    dtype: str
    tensor_shape: ShapeJson


class SignatureDefJson(TypedDict, total=False):
    """A `SignatureDef` as JSON."""

    inputs: dict[str, TensorInfoJson]
    outputs: dict[str, TensorInfoJson]


def parse_signatures(signature_defs: Mapping[str, SignatureDefJson]) -> dict[str, SignatureSpec]:
    """Returns the specs of all signatures by name.

    Args:
        signature_defs: The model's `SignatureDefMap` as JSON.
    """
    return {
        name: {
            "inputs": _parse_specs(signature.get("inputs", {})),
            "outputs": _parse_specs(signature.get("outputs", {})),
        }
        for name, signature in sorted(signature_defs.items())
        if not name.startswith("__saved_model")  # the loader's own initializers
    }


def _parse_specs(infos: Mapping[str, TensorInfoJson]) -> dict[str, TensorSpec]:
    return {name: _parse_spec(info) for name, info in sorted(infos.items())}


def _parse_spec(info: TensorInfoJson) -> TensorSpec:
    dtype, shape = info["dtype"], info.get("tensor_shape", {})
    sizes = tuple(int(axis.get("size", 0)) for axis in shape.get("dim", ()))
    free_rank = shape.get("unknown_rank", False)
    return TensorSpec(
        _DTYPES.get(dtype, dtype.removeprefix("DT_").lower()),
        None if free_rank else tuple(None if size < 0 else size for size in sizes),
    )


def encode_inputs(
    inputs: Mapping[str, ArrayLike] | ArrayLike, specs: Mapping[str, TensorSpec], signature: str
) -> Arrays:
    """Returns the arrays to send: of the specs' dtypes, strings as objects of `bytes`.

    Args:
        inputs: Dictionary from name to array or nested lists, or the value of the only input.
        specs: The specs of the inputs by name.
        signature: The signature's name, for messages.

    Raises:
        InvalidRequest: If names, dtypes or shapes differ from the specs, or the numbers of rows differ.
    """
    wanted = ", ".join(f"`{name}` ({spec})" for name, spec in specs.items())
    if not isinstance(inputs, dict):
        if len(specs) != 1:
            raise InvalidRequest(
                f"`inputs` must be a dictionary: signature `{signature}` takes {wanted or 'no inputs'}. "
                f"Received: one of type {inputs.__class__.__name__}."
            )
        inputs = dict.fromkeys(specs, inputs)
    if set(inputs) != set(specs):
        raise InvalidRequest(
            f"`inputs` must have the names that signature `{signature}` takes: {wanted}. "
            f"Received: {sorted(map(str, inputs))}."
        )
    arrays = {name: _encode(name, inputs[name], spec) for name, spec in specs.items()}
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise InvalidRequest(f"`inputs` must all have the same number of rows. Received rows: {rows}.")
    return arrays


def empty_outputs(specs: Mapping[str, TensorSpec]) -> Arrays:
    """Returns the outputs of a batch without rows: of the specs' dtypes, with size 0 for free sizes.

    A server that batches does not answer such a request until another one arrives.
    """
    return {
        name: np.empty(
            (0, *(size or 0 for size in (spec.shape or ())[1:])), object if spec.dtype == "string" else spec.dtype
        )
        for name, spec in specs.items()
    }


def _encode(name: str, value: ArrayLike, spec: TensorSpec) -> np.ndarray:
    try:
        array = np.array(value, dtype=object if spec.dtype == "string" else None)
    except ValueError as error:
        raise _refusal(name, spec, "rows of different lengths or depths") from error
    encoded = _encode_strings(name, array, spec) if spec.dtype == "string" else _encode_numbers(name, array, spec)
    if array.shape == (0,) and spec.shape:
        return encoded.reshape(
            0, *(size or 0 for size in spec.shape[1:])
        )  # an empty list does not show its further axes
    fits = spec.shape is None or (
        len(spec.shape) == array.ndim and all(want in (None, size) for want, size in zip(spec.shape, array.shape))
    )
    if not fits or not array.shape:
        raise _refusal(name, spec, f"shape {array.shape}")
    if len(array) and not array.size:
        raise _refusal(name, spec, f"rows without elements, shape {array.shape}")
    return encoded


def _encode_strings(name: str, array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    def encode(value: object) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(value, (list, tuple, np.ndarray)):
            raise _refusal(name, spec, "rows of different lengths or depths")
        if not isinstance(value, str):
            raise _refusal(name, spec, f"a value of type {value.__class__.__name__}")
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise _refusal(name, spec, f"text that UTF-8 cannot write ({error.reason})") from error

    return _mapped(encode, array)


def _encode_numbers(name: str, array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError as error:
        raise _refusal(name, spec, "a dtype that the client cannot write") from error
    if not array.size:
        return array.astype(dtype)
    if _KINDS.get(array.dtype.kind, len(_KINDS)) > _KINDS.get(dtype.kind, -1):
        raise _refusal(name, spec, f"{array.dtype} of shape {array.shape}")
    with np.errstate(over="ignore"):
        encoded = array.astype(dtype)
    exact = np.isfinite(encoded) == np.isfinite(array) if dtype.kind == "f" else encoded == array
    if not exact.all():
        raise _refusal(name, spec, f"values out of its range, as {array.dtype}")
    return encoded


def _refusal(name: str, spec: TensorSpec, received: str) -> InvalidRequest:
    return InvalidRequest(f"`{name}` must be {spec}. Received: {received}.")


def decode_output(value: ArrayLike, spec: TensorSpec) -> np.ndarray:
    """Returns an output as an array of the spec's dtype, strings as objects of `str`.

    Args:
        value: Array or nested lists; strings as `bytes` or `str`.
        spec: The output's `TensorSpec`.
    """
    if spec.dtype == "string":
        array = _mapped(
            lambda text: text.decode(errors="replace") if isinstance(text, bytes) else text,
            np.array(value, dtype=object),
        )
    else:
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype=spec.dtype)
    if not array.size and spec.shape and array.ndim < len(spec.shape):  # empty lists do not show their further axes
        array = array.reshape(array.shape + tuple(size or 0 for size in spec.shape[array.ndim :]))
    return array


def _mapped(function: Callable[[object], object], array: np.ndarray) -> np.ndarray:
    """Returns an array of objects: `function` applied to each value."""
    values = np.empty(array.size, dtype=object)
    values[:] = [function(value) for value in array.ravel()]
    return values.reshape(array.shape)
