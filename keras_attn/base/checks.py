"""Checks at the door: named axes that must agree between arguments, sizes, counts and rates.

Axes have one letter each, the same everywhere: B batch, T target, S source, D model size,
H heads, K head size, M memory size, U attention units.
"""

import math
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


def check_last_axis(name, shape):
    """Raises a `ValueError` unless the last axis of a shape is static: weights are made for it."""
    if not shape or shape[-1] is None:
        raise ValueError(f"`{name}` must have a static last axis. Received: {name}.shape={tuple(shape)}.")


def check_number(name, value, kind=float, optional=False, must=None, **bounds):
    """Raises a `ValueError` unless `value` is a number within bounds, for instance `above=0, at_most=1`.

    Args:
        name: Name of the argument, for messages.
        value: The number.
        kind, **bounds: As for `is_number`.
        optional: Whether None is allowed too.
        must: What the message says behind "must", in place of words made of `kind` and bounds.
    """
    if not (optional and value is None) and not is_number(value, kind, **bounds):
        must = must or f"be {_described(kind, **bounds)}{' or None' if optional else ''}"
        raise ValueError(f"`{name}` must {must}. Received: {name}={short_repr(value)}.")


def is_number(value, kind=float, above=None, at_least=None, below=None, at_most=None):
    """Whether `value` is a number within bounds. Booleans are no numbers, nor is NaN.

    Args:
        value: Anything.
        kind: `int` for integers, `float` for real numbers.
        above, at_least, below, at_most: Bounds, or None. Infinity is refused unless it is itself a bound,
            as `at_most=math.inf` is.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if kind is int else numbers.Real):
        return False
    return (
        (isinstance(value, numbers.Integral) or math.isfinite(value) or value in (at_least, at_most))
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    )


def _described(kind, above=None, at_least=None, below=None, at_most=None):
    """Returns what a number must be, in words."""
    noun = "an integer" if kind is int else "a number"
    low, high = (at_least if above is None else above), (at_most if below is None else below)
    if low is None and high is None:
        return noun
    if high is None:
        return f"{noun} of at least {low}" if above is None else f"{noun} above {low}"
    if low is None:
        return f"{noun} of at most {high}" if below is None else f"{noun} below {high}"
    if kind is int and above is None and below is None:
        return f"{noun} from {low} to {high}"
    return f"{noun} in {'[' if above is None else '('}{low}, {high}{']' if below is None else ')'}"


def check_positive(name, value, optional=False):
    """Raises a `ValueError` unless `value` is an integer of at least 1, or None where that is allowed."""
    check_number(name, value, int, optional, at_least=1)


def check_rate(name, value):
    """Raises a `ValueError` unless `value` is a number in [0, 1)."""
    check_number(name, value, at_least=0, below=1)


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
            f"Received: {name}.dtype={dtype_of(mask)}."
        )


def as_boolean(name, mask):
    """Returns a padding mask as booleans; integers count as True unless zero."""
    check_padding_mask(name, mask)
    return ops.cast(mask, "bool")


def check_boolean(name, mask):
    """Raises a `ValueError` for masks of floating point, which would be additive elsewhere."""
    if is_float(mask):
        raise ValueError(
            f"`{name}` must be boolean, True where a query may attend. Received: {name}.dtype={dtype_of(mask)}. "
            "Scores to be added go into `bias`."
        )


def is_float(tensor):
    """Whether a tensor or array is of floating point."""
    return keras.backend.is_float_dtype(dtype_of(tensor))


def dtype_of(tensor):
    """Returns the dtype of a tensor or array as Keras names it, for instance `"float32"`."""
    return keras.backend.standardize_dtype(tensor.dtype)


def integers(name, value):
    """As `to_tensor(name, value, "int32")`."""
    return to_tensor(name, value, "int32")


def as_tensor(value):
    """As `to_tensor` for an argument that has no name."""
    return to_tensor("tensor", value)
