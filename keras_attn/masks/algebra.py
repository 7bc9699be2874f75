"""The base classes of masks, and the operators that combine them.

A kernel calls `visible` to mask the `Grid` of scores that it computes. Before that it calls `coverage` for
rectangles of the grid: it skips those that are hidden, and does not mask those that are fully visible.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import NamedTuple

from keras import ops

from keras_attn.base.checks import check_slot
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Tensor


@dataclasses.dataclass
class Grid:
    """The grid of scores: every query against every key.

    Attributes:
        query_index: Index of each query among the keys, `[B or 1, 1, T, 1]`.
        key_index: Index of each key, `[B or 1, 1, 1, S]`, or `[B or 1, 1, T, S]` if each query has
            its own keys.
        query_present, key_present: Booleans of the same shapes, False where a query or key is missing;
            None if all are present.
    """

    query_index: Tensor
    key_index: Tensor
    query_present: Tensor | None = None
    key_present: Tensor | None = None

    def visible(self, mask: Mask | None) -> Tensor | None:
        """Returns booleans that broadcast to `[B, H, T, S]`, True for cells that are present and visible; None for all.

        Args:
            mask: A mask object, or None.
        """
        parts = [part for part in (self.query_present, self.key_present) if part is not None]
        parts += [] if mask is None else [mask.visible(self)]
        return functools.reduce(operator.and_, parts) if parts else None

    def queries(self, tensor: Tensor) -> Tensor:
        """Returns a tensor `[B, T]` as `[B, 1, T, 1]`, for the queries of the grid."""
        return ops.expand_dims(tensor, (1, 3))

    def keys(self, tensor: Tensor) -> Tensor:
        """Returns a tensor `[B, S]` as `[B, 1, 1, S]`, for the keys of the grid."""
        return ops.expand_dims(tensor, (1, 2))

    def cells(self, tensor: Tensor) -> Tensor:
        """Returns the part of a tensor, which broadcasts to `[B, H, T, S]`, that belongs to the cells of the grid."""
        return tensor


@dataclasses.dataclass(frozen=True)
class Rectangle:
    """Rectangles of the grid of scores, by the first and the last index of their queries and keys.

    Attributes are integers or integer tensors that broadcast against each other.
    """

    query_low: int | Tensor
    query_high: int | Tensor
    key_low: int | Tensor
    key_high: int | Tensor


class Coverage(NamedTuple):
    """How much of a `Rectangle` is visible, as booleans or boolean tensors.

    Attributes:
        any_visible: Whether a cell may be visible; False only if all cells are hidden.
        all_visible: Whether all cells are visible; False also if that is not known.
    """

    any_visible: bool | Tensor
    all_visible: bool | Tensor


class Mask(Slot):
    """The base class of all masks, with `&`, `|` and `~`.

    Attributes:
        reach: Maximum number of keys back that a query may attend to, including its own; None if unknown.
        ahead: Maximum number of keys ahead that a query may attend to, without its own; 0 hides the future.
            None if unknown.
    """

    reach: int | None = None
    ahead: int | None = None

    def parts(self) -> list[Mask]:
        """Returns the masks that this one combines, or itself if it is a single one."""
        return [self]

    def visible(self, grid: Grid) -> Tensor:
        """Returns booleans that broadcast to `[B, H, T, S]`, True where a query may attend."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `visible(grid)`.")

    def coverage(self, rectangle: Rectangle) -> Coverage:
        """Returns the `Coverage` of rectangles; the default, (True, False), is safe for every mask."""
        del rectangle
        return Coverage(True, False)

    def __and__(self, other: Mask) -> And:
        return And(self, other)

    def __or__(self, other: Mask) -> Or:
        return Or(self, other)

    def __invert__(self) -> Not:
        return Not(self)


class Pattern(Mask):
    """A mask that is a function of indices: subclasses define `__call__`, and optionally `coverage`."""

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        """Returns whether the query may attend to the key, for indices that broadcast against each other."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `__call__`.")

    def visible(self, grid: Grid) -> Tensor:
        return self(grid.query_index, grid.key_index)


class _Pair(Pattern):
    def __init__(self, first: Mask, second: Mask) -> None:
        self.first = check_mask("first", first)
        self.second = check_mask("second", second)

    def join(self, first: bool | Tensor, second: bool | Tensor) -> bool | Tensor:
        """Returns the visibility of the combined mask from that of its two masks."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `join`.")

    def parts(self) -> list[Mask]:
        return [*self.first.parts(), *self.second.parts()]

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        return self.join(evaluate(self.first, query_index, key_index), evaluate(self.second, query_index, key_index))

    def visible(self, grid: Grid) -> Tensor:
        return self.join(self.first.visible(grid), self.second.visible(grid))

    def coverage(self, rectangle: Rectangle) -> Coverage:
        return Coverage(*map(self.join, self.first.coverage(rectangle), self.second.coverage(rectangle)))


@register
class And(_Pair):
    """Visible where both masks are visible."""

    def __init__(self, first: Mask, second: Mask) -> None:
        super().__init__(first, second)
        self.reach = min_known(self.first.reach, self.second.reach)
        self.ahead = min_known(self.first.ahead, self.second.ahead)

    def join(self, first: bool | Tensor, second: bool | Tensor) -> bool | Tensor:
        return first & second


@register
class Or(_Pair):
    """Visible where at least one of the masks is visible."""

    def __init__(self, first: Mask, second: Mask) -> None:
        super().__init__(first, second)
        self.reach = max_known(self.first.reach, self.second.reach)
        self.ahead = max_known(self.first.ahead, self.second.ahead)

    def join(self, first: bool | Tensor, second: bool | Tensor) -> bool | Tensor:
        return first | second


@register
class Not(Pattern):
    """Visible where the mask is hidden."""

    def __init__(self, mask: Mask) -> None:
        self.mask = check_mask("mask", mask)

    def parts(self) -> list[Mask]:
        return self.mask.parts()

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        return negate(evaluate(self.mask, query_index, key_index))

    def visible(self, grid: Grid) -> Tensor:
        return negate(self.mask.visible(grid))

    def coverage(self, rectangle: Rectangle) -> Coverage:
        any_visible, all_visible = self.mask.coverage(rectangle)
        return Coverage(negate(all_visible), negate(any_visible))


def evaluate(mask: Mask, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
    """Returns whether the query may attend to the key; raises a `TypeError` for call masks."""
    if not isinstance(mask, Pattern):
        raise TypeError(f"`{mask.__class__.__name__}` is not a function of indices: it holds the tensors of one call.")
    return mask(query_index, key_index)


def negate(value: bool | Tensor) -> bool | Tensor:
    """Returns `not value` for a Python boolean, and the elementwise negation of an array or tensor."""
    return not value if isinstance(value, bool) else ~value


def min_known(*bounds: int | None) -> int | None:
    """Returns the smallest of the bounds that are known, or None."""
    return min((bound for bound in bounds if bound is not None), default=None)


def max_known(*bounds: int | None) -> int | None:
    """Returns the largest of the bounds, or None if one is not known."""
    known = [bound for bound in bounds if bound is not None]
    return max(known) if len(known) == len(bounds) else None


def check_pattern(name: str, mask: Pattern | None) -> Pattern | None:
    """Raises a `ValueError` unless `mask` is None or a pattern that combines only patterns."""
    check_slot(name, mask, Pattern)
    for part in [] if mask is None else mask.parts():
        if not isinstance(part, Pattern):
            raise ValueError(
                f"`{name}` must combine patterns only: {part.__class__.__name__} holds the tensors of one call, "
                f"which are arguments of `call`. Received: {name}={short_repr(mask)}."
            )
    return mask


def check_mask(name: str, mask: Mask) -> Mask:
    """Raises a `ValueError` unless `mask` is a mask."""
    if not isinstance(mask, Mask):
        raise ValueError(f"Only masks can be combined by &, | and ~. Received: {name}={short_repr(mask)}.")
    return mask


def combine(*masks: Mask | None) -> Mask | None:
    """Combines the masks that are not None by `&`; returns None if all are None."""
    given = [mask for mask in masks if mask is not None]
    return functools.reduce(operator.and_, given) if given else None
