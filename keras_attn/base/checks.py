"""Checks at the door: named axes that must agree between arguments, numbers and their bounds, slots, masks.

Axes have one letter each, the same everywhere: B batch, T target, S source, D model size,
H heads, K head size, M memory size, U attention units.
"""

import math
import numbers

from keras import ops

from keras_attn.base.tensors import as_array, dtype_of, is_float, short_repr, static_shape
from keras_attn.base.types import Shape


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


def check_together(first, second, arguments):
    """Raises a `ValueError` if the second argument is given without the first."""
    if arguments.get(second) is not None and arguments.get(first) is None:
        raise ValueError(f"`{first}` must be given where `{second}` is. Received: {first}=None.")


def check_last_axis(name: str, shape: Shape) -> int:
    """Returns the last size of a shape; raises a `ValueError` unless it is static: weights are made for it."""
    if not shape or shape[-1] is None:
        raise ValueError(f"`{name}` must have a static last axis. Received: {name}.shape={tuple(shape)}.")
    return shape[-1]


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
