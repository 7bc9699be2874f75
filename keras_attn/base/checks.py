"""Checks at the door: named axes that must agree between arguments, sizes, counts and rates.

Axes have one letter each, the same everywhere: B batch, T target, S source, D model size,
H heads, K head size, M memory size, U attention units.
"""

import numbers
import reprlib

import keras
import numpy as np
from keras import ops


def is_array(value):
    """Whether an argument of a call is a tensor or array, symbolic or not."""
    return isinstance(value, (np.ndarray, keras.KerasTensor)) or ops.is_tensor(value)


def as_array(name, value):
    """Returns the argument `name` as a tensor or array: nested lists of numbers become arrays, None stays None.

    Raises:
        ValueError: For ragged tensors, lists of rows of different lengths, and what is no tensor.
    """
    if is_ragged(value):
        raise ValueError(
            f"`{name}` must not be ragged: pad its rows to one length, for instance by `.to_tensor()`, and pass a "
            f"padding mask beside it. Received: {name} of type {value.__class__.__name__}."
        )
    if value is None or is_array(value) or getattr(value, "shape", None) is not None:
        return value
    if isinstance(value, (list, tuple)) and value and all(map(is_array, value)):
        return ops.stack(value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must have rows of one length: pad them and pass a padding mask. "
            f"Received: {name}={short_repr(value)}."
        ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"`{name}` must be a tensor, an array or a list of numbers. Received: {short_repr(value)}.")
    return array


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
            dtype = keras.backend.standardize_dtype(value.dtype)
            return f"<{value.__class__.__name__} of dtype {dtype} and shape {static_shape(value)}>"
        return super().repr1(value, level)


def short_repr(value):
    """Returns what an error message says of an argument: its `repr`, cut short; of tensors dtype and shape."""
    return _Description().repr(value)


def check_axes(axes, arguments, sizes=None):
    """Raises unless every argument has its axes and equal letters have equal sizes.

    Args:
        axes: Dictionary from argument name to its axes, for instance `{"inputs": "BTD"}`.
        arguments: Dictionary from argument name to a tensor, or None for one not given.
        sizes: Sizes of letters that are known beforehand, for instance `{"D": 512}`.

    Returns:
        The dictionary of all sizes that are static, letter by letter.

    Raises:
        ValueError: Naming the argument, the shape expected and the one received.
    """
    sizes = dict(sizes or {})
    origin = {}
    for name, letters in axes.items():
        tensor = as_array(name, arguments.get(name))
        if tensor is None:
            continue
        shape = static_shape(tensor)
        if len(shape) != len(letters):
            raise ValueError(
                f"`{name}` must have {len(letters)} axes, [{', '.join(letters)}]. Received: {name}.shape={shape}."
            )
        for letter, size in zip(letters, shape, strict=True):
            if size is None:
                continue
            if sizes.setdefault(letter, size) != size:
                where = f" as in `{origin[letter]}`" if letter in origin else ""
                raise ValueError(
                    f"`{name}` must have shape [{', '.join(letters)}] with {letter}={sizes[letter]}{where}. "
                    f"Received: {name}.shape={shape}."
                )
            origin.setdefault(letter, name)
    return sizes


def check_broadcast(name, tensor, letters, sizes):
    """Raises unless `tensor` broadcasts to the axes `letters` of the known `sizes`."""
    shape = static_shape(tensor)
    wanted = tuple(sizes.get(letter) for letter in letters)
    fits = len(shape) <= len(wanted) and all(
        size in (1, None) or want in (size, None) for size, want in zip(reversed(shape), reversed(wanted), strict=False)
    )
    if not fits:
        raise ValueError(
            f"`{name}` must broadcast to [{', '.join(letters)}] = {wanted}. Received: {name}.shape={shape}."
        )


def static_shape(tensor):
    """Returns the shape as a tuple of integers, None where it is not static.

    Symbolic sizes, which JAX and PyTorch have while they export, count as not static.
    """
    return tuple(static_size(size) for size in tensor.shape)


def static_size(size):
    """Returns an element of a shape as an integer, or None where it is not static."""
    known = isinstance(size, numbers.Integral) or ops.is_tensor(size)  # PyTorch traces sizes as tensors
    return int(size) if known else None


def check_together(first, second, arguments):
    """Raises a `ValueError` if the second argument is given without the first."""
    if arguments.get(second) is not None and arguments.get(first) is None:
        raise ValueError(f"`{first}` must be given where `{second}` is. Received: {first}=None.")


def integers(name, value):
    """Returns positions, ids, lengths or indices as an int32 tensor, whatever integers they are given as.

    Raises:
        ValueError: For floating point.
    """
    value = value if isinstance(value, keras.Variable) else as_array(name, value)
    dtype = keras.backend.standardize_dtype(value.dtype)
    if keras.backend.is_float_dtype(dtype) and 0 not in value.shape:  # an empty list has no dtype of its own
        wanted = "integers" if len(value.shape) else "an integer"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}.dtype={dtype}.")
    return ops.cast(value, "int32")


def as_tensor(value):
    """Returns a tensor of the dtype that an array has.

    Keras makes floats of integers and booleans on JAX where `floatx` is bfloat16 and no dtype is given.
    """
    if isinstance(value, np.ndarray):
        return ops.convert_to_tensor(value, keras.backend.standardize_dtype(value.dtype))
    return ops.convert_to_tensor(value)


def check_last_axis(name, shape):
    """Raises a `ValueError` unless the last axis of a shape is static: weights are made for it."""
    if not shape or shape[-1] is None:
        raise ValueError(f"`{name}` must have a static last axis. Received: {name}.shape={tuple(shape)}.")


def check_positive(name, value):
    """Raises a `ValueError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{name}` must be an integer of at least 1. Received: {name}={short_repr(value)}.")


def check_rate(name, value):
    """Raises a `ValueError` unless `value` is a number in [0, 1)."""
    if not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be a number in [0, 1). Received: {name}={short_repr(value)}.")


def check_slot(name, value, kind):
    """Raises a `ValueError` unless `value` is None or an instance of `kind`."""
    if value is not None and not isinstance(value, kind):
        raise ValueError(
            f"`{name}` must be a {kind.__name__} of keras_attn or None. Received: {name}={short_repr(value)} "
            f"of type {value.__class__.__name__}."
        )
    return value


def check_attention_mask(name, mask, letters, sizes):
    """Raises unless `mask` is boolean (or integer) and broadcasts to the axes `letters` (B H T S)."""
    check_boolean(name, mask)
    without_heads = letters.replace("H", "") if len(mask.shape) == 3 else letters
    check_broadcast(name, mask, without_heads, sizes)


def check_padding_mask(name, mask):
    """Raises a `ValueError` for padding masks of floating point."""
    if is_float(mask):
        raise ValueError(
            f"`{name}` must be a padding mask of booleans or integers, True for positions that are real. "
            f"Received: {name}.dtype={mask.dtype}."
        )


def as_boolean(name, mask):
    """Returns a padding mask as booleans; integers count as True unless zero."""
    check_padding_mask(name, mask)
    return ops.cast(mask, "bool")


def check_boolean(name, mask):
    """Raises a `ValueError` for masks of floating point, which would be additive elsewhere."""
    if is_float(mask):
        raise ValueError(
            f"`{name}` must be boolean, True where a query may attend. Received: {name}.dtype={mask.dtype}. "
            "Scores to be added go into `bias`."
        )


def is_float(tensor):
    """Whether a tensor or array is of floating point."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
