"""Argument checks: named axes that must agree between arguments, numbers and their bounds, slots, masks.

Axes have one letter each, the same everywhere: B batch, T target, S source, D model size,
H heads, K head size, M memory size, U attention units.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any, TypeVar

from keras import ops

from keras_attn.base.tensors import as_array, dtype_of, is_float, short_repr, static_shape
from keras_attn.base.types import ArrayLike, CallArguments, Shape, Tensor

Kind = TypeVar("Kind")


def check_axes(
    axes: Mapping[str, str],
    arguments: Mapping[str, ArrayLike | None],
    sizes: Mapping[str, int | None] | None = None,
) -> dict[str, int]:
    """Raises a `ValueError` unless every argument has its axes and equal letters have equal sizes.

    Args:
        axes: Dictionary from argument name to its axes, for example `{"inputs": "BTD"}`.
        arguments: Dictionary from argument name to its tensor, or None if it is not given.
        sizes: Known sizes by letter, for example `{"D": 512}`; None is an unknown size.

    Returns:
        All static sizes, by letter.

    Raises:
        ValueError: The message contains the argument's name, the expected shape and the received one.
    """
    known = {letter: size for letter, size in (sizes or {}).items() if size is not None}
    origin: dict[str, str] = {}
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
            if known.setdefault(letter, size) != size:
                where = f" as in `{origin[letter]}`" if letter in origin else ""
                raise ValueError(
                    f"`{name}` must have shape [{', '.join(letters)}] with {letter}={known[letter]}{where}. "
                    f"Received: {name}.shape={shape}."
                )
            origin.setdefault(letter, name)
    return known


def check_broadcast(name: str, tensor: Tensor, letters: str, sizes: Mapping[str, int | None]) -> None:
    """Raises a `ValueError` unless `tensor` broadcasts to the axes `letters` of the known `sizes`."""
    shape = static_shape(tensor)
    wanted = tuple(sizes.get(letter) for letter in letters)
    fits = len(shape) <= len(wanted) and all(
        size in (1, None) or want in (size, None) for size, want in zip(reversed(shape), reversed(wanted), strict=False)
    )
    if not fits:
        raise ValueError(
            f"`{name}` must broadcast to [{', '.join(letters)}] = {wanted}. Received: {name}.shape={shape}."
        )


def check_together(first: str, second: str, arguments: CallArguments) -> None:
    """Raises a `ValueError` if the second argument is given without the first."""
    if arguments.get(second) is not None and arguments.get(first) is None:
        raise ValueError(f"`{first}` must be given if `{second}` is. Received: {first}=None.")


def check_last_axis(name: str, shape: Shape) -> int:
    """Returns the last size of a shape; raises a `ValueError` unless it is static, as the weights require."""
    if not shape or shape[-1] is None:
        raise ValueError(f"`{name}` must have a static last axis. Received: {name}.shape={tuple(shape)}.")
    return shape[-1]


def check_number(
    name: str,
    value: object,
    kind: type[int] | type[float] = float,
    optional: bool = False,
    must: str | None = None,
    **bounds: float | None,
) -> None:
    """Raises a `ValueError` unless `value` is a number within bounds, for example `above=0, at_most=1`.

    Args:
        name: Name of the argument, for messages.
        value: The number.
        kind, **bounds: As for `is_number`.
        optional: Whether None is allowed too.
        must: Text of the message after "must"; by default it describes `kind` and the bounds.
    """
    if not (optional and value is None) and not is_number(value, kind, **bounds):
        must = must or f"be {_described(kind, **bounds)}{' or None' if optional else ''}"
        raise ValueError(f"`{name}` must {must}. Received: {name}={short_repr(value)}.")


def is_number(
    value: Any,
    kind: type[int] | type[float] = float,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> bool:
    """Returns whether `value` is a number within bounds. Booleans and NaN do not count as numbers.

    Args:
        value: Anything.
        kind: `int` for integers, `float` for real numbers.
        above, at_least, below, at_most: Bounds, or None. Infinity is accepted only if it is a bound itself,
            for example with `at_most=math.inf`.
    """
    is_of_kind = isinstance(value, numbers.Integral if kind is int else numbers.Real)
    if isinstance(value, bool) or not is_of_kind:
        return False
    return (
        (isinstance(value, numbers.Integral) or math.isfinite(value) or value in (at_least, at_most))
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    )


def _described(
    kind: type[int] | type[float],
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> str:
    """Returns the description of a kind of number and its bounds, for messages."""
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


def check_positive(name: str, value: object, optional: bool = False) -> None:
    """Raises a `ValueError` unless `value` is an integer of at least 1, or None if `optional`."""
    check_number(name, value, int, optional, at_least=1)


def check_rate(name: str, value: object) -> None:
    """Raises a `ValueError` unless `value` is a number in [0, 1)."""
    check_number(name, value, at_least=0, below=1)


def check_slot(name: str, value: object, kind: type[Kind]) -> Kind | None:
    """Returns `value` if it is None or an instance of `kind`, else raises a `ValueError`."""
    if value is not None and not isinstance(value, kind):
        raise ValueError(
            f"`{name}` must be a {kind.__name__} of keras_attn or None. Received: {name}={short_repr(value)} "
            f"of type {value.__class__.__name__}."
        )
    return value


def check_attention_mask(name: str, mask: Tensor, letters: str, sizes: Mapping[str, int | None]) -> None:
    """Raises a `ValueError` unless `mask` is boolean (or integer) and broadcasts to the axes `letters` (B H T S)."""
    check_boolean(name, mask)
    without_heads = letters.replace("H", "") if len(mask.shape) == 3 else letters
    check_broadcast(name, mask, without_heads, sizes)


def check_padding_mask(name: str, mask: Tensor) -> None:
    """Raises a `ValueError` for padding masks of a floating-point dtype."""
    if is_float(mask):
        raise ValueError(
            f"`{name}` must be a padding mask of booleans or integers, False for padding. "
            f"Received: {name}.dtype={dtype_of(mask)}."
        )


def as_boolean(name: str, mask: Tensor) -> Tensor:
    """Returns a padding mask as booleans: nonzero integers become True."""
    check_padding_mask(name, mask)
    return ops.cast(mask, "bool")


def check_boolean(name: str, mask: Tensor) -> None:
    """Raises a `ValueError` for masks of a floating-point dtype, which other libraries add to the scores."""
    if is_float(mask):
        raise ValueError(
            f"`{name}` must be boolean, True where a query may attend. Received: {name}.dtype={dtype_of(mask)}. "
            "Use `bias` for values that are added to the scores."
        )
