"""Arguments as tensors: tests for tensors, conversion of lists, short descriptions for error messages."""

from __future__ import annotations

import numbers
import reprlib
from typing import TypeGuard

import keras
import numpy as np
from keras import ops

from keras_attn.base.types import ArrayLike, DType, Shape, Tensor


def is_array(value: object) -> TypeGuard[Tensor]:
    """Returns whether an argument of a call is a tensor or array, symbolic or not."""
    return isinstance(value, (np.ndarray, keras.KerasTensor)) or ops.is_tensor(value)


def as_array(name: str, value: ArrayLike | None) -> Tensor:
    """Returns an argument with a shape and a dtype, for checks. Nothing is moved to a device or cast.

    Args:
        name: Name of the argument, for messages.
        value: Nested lists of numbers, which become an array, or lists of tensors, which become a tensor.
            Arrays, tensors, variables and None are returned as they are.

    Raises:
        ValueError: For ragged tensors, rows of different lengths, and other values.
    """
    if is_ragged(value) or has_unequal_rows(value):
        raise ValueError(
            f"`{name}` must have rows of one length: pad them, for example by `keras.utils.pad_sequences({name}, "
            f"padding='post')` or, if ragged, by `.to_tensor()`; if 0 is not padding, pass a padding mask too. "
            f"Received: {name} of type {value.__class__.__name__} with rows of different lengths."
        )
    if isinstance(value, (list, tuple)) and value and all(map(is_array, value)):
        return ops.stack(value)
    if value is None or (getattr(value, "shape", None) is not None and not isinstance(value, np.ndarray)):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biufV":  # V: bfloat16 and the like
        raise ValueError(f"`{name}` must be a tensor, an array or a list of numbers. Received: {short_repr(value)}.")
    return array


def to_tensor(name: str, value: ArrayLike | None, dtype: DType = None) -> Tensor:
    """Returns an argument as a tensor of the backend.

    Args:
        name: Name of the argument, for messages.
        value: As for `as_array`. None stays None, and symbolic tensors stay symbolic.
        dtype: The dtype to cast to, for example `"int32"` for positions, ids, lengths and indices, which may
            be integers of any kind. None keeps the dtype of tensors, integers and booleans; Keras chooses
            that of other arrays.

    Raises:
        ValueError: As for `as_array`, and for floats if `dtype` is an integer dtype.
    """
    value = as_array(name, value)
    if value is None:
        return None
    if dtype is None:
        if not isinstance(value, np.ndarray):
            return value
        # On JAX, with `floatx` bfloat16, Keras would convert integers and booleans to floats.
        is_whole = value.dtype.kind in "bui"
        return ops.convert_to_tensor(value, dtype_of(value) if is_whole else None)
    given = dtype_of(value)
    is_wrong = keras.backend.is_int_dtype(dtype) and keras.backend.is_float_dtype(given)
    if is_wrong and 0 not in value.shape:  # an empty list has no dtype
        wanted = "integers" if len(value.shape) else "an integer"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}.dtype={given}.")
    if isinstance(value, np.ndarray) and value.dtype.kind == "V":  # bfloat16, which Keras on PyTorch does not cast
        value = ops.convert_to_tensor(value, given)
    return ops.cast(value, dtype)


def has_unequal_rows(value: ArrayLike | None) -> bool:
    """Returns whether a nested list, or an array of lists, has rows of different lengths."""
    if isinstance(value, np.ndarray):
        return value.dtype == object
    if not isinstance(value, (list, tuple)):
        return False
    if any(is_array(row) and not isinstance(row, np.ndarray) for row in value):  # tensors, symbolic or not
        return len({static_shape(row) for row in value if is_array(row)}) > 1
    try:
        return np.asarray(value).dtype == object
    except ValueError:  # NumPy raises it for rows of different lengths
        return True


def is_ragged(value: ArrayLike | None) -> bool:
    """Returns whether rows differ in length: TensorFlow's ragged tensors, PyTorch's nested ones, or symbolic ones."""
    named = value.__class__.__name__ == "RaggedTensor"
    return named or getattr(value, "ragged", False) is True or getattr(value, "is_nested", False) is True


class _Description(reprlib.Repr):
    """A short `repr` that shows dtype and shape of tensors and arrays, never their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200
        self.maxlevel = 3

    def repr1(self, value: object, level: int) -> str:
        if is_array(value):
            is_numpy = isinstance(value, np.ndarray)  # arrays may contain strings or objects
            dtype = value.dtype.name if is_numpy else dtype_of(value)
            return f"<{value.__class__.__name__} of dtype {dtype} and shape {static_shape(value)}>"
        return super().repr1(value, level)


def short_repr(value: object) -> str:
    """Returns a short `repr` of an argument for error messages; for tensors only dtype and shape."""
    return _Description().repr(value)


def static_shape(tensor: Tensor) -> Shape:
    """Returns the shape as a tuple of integers, with None for sizes that are not static.

    Symbolic sizes, which JAX and PyTorch have during an export, are not static.
    """
    return tuple(static_size(size) for size in tensor.shape)


def static_size(size: ArrayLike) -> int | None:
    """Returns an element of a shape as an integer, or None if it is not static."""
    known = isinstance(size, numbers.Integral) or ops.is_tensor(size)  # PyTorch traces sizes as tensors
    return int(size) if known else None


def shape_of(tensor: Tensor) -> tuple[int | Tensor, ...]:
    """Returns the sizes of a tensor: integers where they are static, and scalar tensors elsewhere.

    It is `ops.shape`, which on TensorFlow adds an operation even if no size needs it.
    """
    sizes = tuple(tensor.shape)
    return sizes if all(isinstance(size, int) for size in sizes) else tuple(ops.shape(tensor))


def as_matrix(inputs: Tensor) -> Tensor:
    """Returns inputs `[B, T, D]` as `[B T, D]`, for a linear map as a single product of matrices.

    TensorFlow makes some twenty operations of a product `[B, T, D] x [D, U]` if B or T is not static.
    """
    return ops.reshape(inputs, (-1, inputs.shape[-1]))


def bounds_of(tensor: Tensor) -> tuple[int, int]:
    """Returns the lowest and the highest number of a concrete tensor of integers that is not empty."""
    values = ops.convert_to_numpy(tensor)  # an eager `ops.min` of TensorFlow makes four operations
    return int(values.min()), int(values.max())


def is_float(tensor: Tensor) -> bool:
    """Returns whether a tensor or array has a floating-point dtype."""
    return keras.backend.is_float_dtype(dtype_of(tensor))


def dtype_of(tensor: Tensor) -> str:
    """Returns Keras' name of the dtype of a tensor or array, for example `"float32"`."""
    return keras.backend.standardize_dtype(tensor.dtype)


def lift(mask: Tensor, tensor: Tensor) -> Tensor:
    """Returns a mask of the tensor's first axes with axes of size 1 for the others, so that the two broadcast."""
    return ops.reshape(mask, (*shape_of(mask), *(1,) * (len(tensor.shape) - len(mask.shape))))
