"""Arguments as tensors: what counts as one, how lists become one, and what messages say of one."""

import numbers
import reprlib

import keras
import numpy as np
from keras import ops


def is_array(value):
    """Whether an argument of a call is a tensor or array, symbolic or not."""
    return isinstance(value, (np.ndarray, keras.KerasTensor)) or ops.is_tensor(value)


def as_array(name, value):
    """Returns an argument with a shape and a dtype, to be looked at: nothing is moved or cast.

    Args:
        name: Name of the argument, for messages.
        value: Nested lists of numbers, which become an array, or lists of tensors, which become a tensor.
            Arrays, tensors, variables and None are returned as they are.

    Raises:
        ValueError: For ragged tensors, rows of different lengths, and what is no tensor.
    """
    if is_ragged(value) or has_unequal_rows(value):
        raise ValueError(
            f"`{name}` must have rows of one length: pad them, for instance by `keras.utils.pad_sequences({name}, "
            f"padding='post')` or, if ragged, by `.to_tensor()`; where 0 is not padding, pass a padding mask too. "
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


def to_tensor(name, value, dtype=None):
    """Returns an argument as a tensor of the backend, to be computed with.

    Args:
        name: Name of the argument, for messages.
        value: As for `as_array`. None stays None, and symbolic tensors stay symbolic.
        dtype: What to cast to, for instance `"int32"` for positions, ids, lengths and indices, which may be
            integers of any kind. None keeps the dtype of tensors, integers and booleans, and leaves that
            of other arrays to Keras.

    Raises:
        ValueError: As `as_array`, and for floating point where `dtype` is of integers.
    """
    value = as_array(name, value)
    if value is None:
        return None
    if dtype is None:
        if not isinstance(value, np.ndarray):
            return value
        # Without a dtype Keras makes floats of integers and booleans on JAX where `floatx` is bfloat16.
        is_whole = value.dtype.kind in "bui"
        return ops.convert_to_tensor(value, dtype_of(value) if is_whole else None)
    given = dtype_of(value)
    is_wrong = keras.backend.is_int_dtype(dtype) and keras.backend.is_float_dtype(given)
    if is_wrong and 0 not in value.shape:  # an empty list has no dtype of its own
        wanted = "integers" if len(value.shape) else "an integer"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}.dtype={given}.")
    if isinstance(value, np.ndarray) and value.dtype.kind == "V":  # bfloat16, which Keras on PyTorch does not cast
        value = ops.convert_to_tensor(value, given)
    return ops.cast(value, dtype)


def has_unequal_rows(value):
    """Whether a nested list, or an array of lists, has rows of different lengths."""
    if isinstance(value, np.ndarray):
        return value.dtype == object
    if not isinstance(value, (list, tuple)):
        return False
    if any(is_array(row) and not isinstance(row, np.ndarray) for row in value):  # tensors, symbolic or not
        return len({static_shape(row) for row in value if is_array(row)}) > 1
    try:
        return np.asarray(value).dtype == object
    except ValueError:  # of NumPy, for rows of different lengths
        return True


def is_ragged(value):
    """Whether rows differ in length: a ragged tensor of TensorFlow, a nested one of PyTorch, or a symbolic one."""
    named = value.__class__.__name__ == "RaggedTensor"
    return named or getattr(value, "ragged", False) is True or getattr(value, "is_nested", False) is True


class _Description(reprlib.Repr):
    """A short `repr` that gives dtype and shape of tensors and arrays, never their numbers."""

    def __init__(self):
        super().__init__()
        self.maxstring = self.maxother = 200
        self.maxlevel = 3

    def repr1(self, value, level):
        if is_array(value):
            is_numpy = isinstance(value, np.ndarray)  # which may hold strings or objects
            dtype = value.dtype.name if is_numpy else dtype_of(value)
            return f"<{value.__class__.__name__} of dtype {dtype} and shape {static_shape(value)}>"
        return super().repr1(value, level)


def short_repr(value):
    """Returns what an error message says of an argument: its `repr`, cut short; of tensors dtype and shape."""
    return _Description().repr(value)


def static_shape(tensor):
    """Returns the shape as a tuple of integers, None where it is not static.

    Symbolic sizes, which JAX and PyTorch have while they export, count as not static.
    """
    return tuple(static_size(size) for size in tensor.shape)


def static_size(size):
    """Returns an element of a shape as an integer, or None where it is not static."""
    known = isinstance(size, numbers.Integral) or ops.is_tensor(size)  # PyTorch traces sizes as tensors
    return int(size) if known else None


def is_float(tensor):
    """Whether a tensor or array is of floating point."""
    return keras.backend.is_float_dtype(dtype_of(tensor))


def dtype_of(tensor):
    """Returns the dtype of a tensor or array as Keras names it, for instance `"float32"`."""
    return keras.backend.standardize_dtype(tensor.dtype)
