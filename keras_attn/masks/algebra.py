"""What all masks share: the question they answer, and the algebra that joins them.

A kernel asks a mask for the `Grid` of scores it is about to compute (`visible`), and before
that, for a rectangle of it, whether anything in it is seen and whether all of it is
(`spans`), so that it can leave out what is hidden and need not mask what is not.
"""

import dataclasses
import functools
import operator
from typing import Any

from keras import ops

from keras_attn.base.checks import check_slot
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr


@dataclasses.dataclass(frozen=True)
class Grid:
    """The plane of scores that a mask is asked about: every query against every key.

    Attributes:
        query_index: Index of each query among the keys, `[B or 1, 1, T, 1]`.
        key_index: Index of each key, `[B or 1, 1, 1, S]`, or `[B or 1, 1, T, S]` where each query has keys
            of its own.
        query_present, key_present: Booleans laid as the indices, False where there is no query or no key,
            whatever the mask says; None where all are present.
    """

    query_index: Any
    key_index: Any
    query_present: Any = None
    key_present: Any = None

    def visible(self, mask):
        """Returns booleans that broadcast to `[B, H, T, S]`: the present cells that `mask` shows; None for all.

        Args:
            mask: A mask object, or None.
        """
        parts = [part for part in (self.query_present, self.key_present) if part is not None]
        parts += [] if mask is None else [mask.visible(self)]
        return functools.reduce(operator.and_, parts) if parts else None

    def queries(self, tensor):
        """Lays a tensor `[B, T]` along the grid's queries: `[B, 1, T, 1]`."""
        return ops.expand_dims(tensor, (1, 3))

    def keys(self, tensor):
        """Lays a tensor `[B, S]` along the grid's keys: `[B, 1, 1, S]`."""
        return ops.expand_dims(tensor, (1, 2))

    def cells(self, tensor):
        """Lays a tensor that broadcasts to `[B, H, T, S]` over the grid."""
        return tensor


@dataclasses.dataclass(frozen=True)
class Span:
    """Rectangles of the plane of scores, by the first and last index of queries and keys.

    Attributes are integers or integer tensors that broadcast against each other.
    """

    query_low: Any
    query_high: Any
    key_low: Any
    key_high: Any


class Mask(Slot):
    """What all masks share: `&`, `|`, `~`, and the two questions of a kernel.

    Attributes:
        reach: How many keys back a query may see at most, itself counted; None if no bound is known.
        ahead: How many keys ahead a query may see at most, itself not counted, so that 0 hides
            the future; None if no bound is known.
    """

    reach: Any = None
    ahead: Any = None

    def parts(self):
        """Returns the masks that this one joins, or this one alone."""
        return [self]

    def visible(self, grid):
        """Returns booleans that broadcast to `[B, H, T, S]`, True where a query may attend."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `visible(grid)`.")

    def spans(self, span):
        """Returns (some, every) for rectangles: whether any cell may be, whether all surely are seen.

        A mask that cannot tell answers (True, False), which is always right.
        """
        del span
        return True, False

    def __and__(self, other):
        return And(self, other)

    def __or__(self, other):
        return Or(self, other)

    def __invert__(self):
        return Not(self)


class Pattern(Mask):
    """A mask that is a function of indices: subclasses define `__call__`, and `spans` where they can tell."""

    def __call__(self, query_index, key_index):
        """Returns whether the query may see the key, for indices that broadcast against each other."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `__call__`.")

    def visible(self, grid):
        return self(grid.query_index, grid.key_index)


class _Pair(Pattern):
    join: Any = None

    def __init__(self, first, second):
        self.first = check_mask("first", first)
        self.second = check_mask("second", second)

    def parts(self):
        return [*self.first.parts(), *self.second.parts()]

    def __call__(self, query_index, key_index):
        return self.join(self.first(query_index, key_index), self.second(query_index, key_index))

    def visible(self, grid):
        return self.join(self.first.visible(grid), self.second.visible(grid))

    def spans(self, span):
        return tuple(map(self.join, self.first.spans(span), self.second.spans(span)))


@register
class And(_Pair):
    """Sees what both masks let through."""

    join = staticmethod(operator.and_)

    @property
    def reach(self):
        return min_known(self.first.reach, self.second.reach)

    @property
    def ahead(self):
        return min_known(self.first.ahead, self.second.ahead)


@register
class Or(_Pair):
    """Sees what either mask lets through."""

    join = staticmethod(operator.or_)

    @property
    def reach(self):
        return max_known(self.first.reach, self.second.reach)

    @property
    def ahead(self):
        return max_known(self.first.ahead, self.second.ahead)


@register
class Not(Pattern):
    """Sees what the mask hides."""

    def __init__(self, mask):
        self.mask = check_mask("mask", mask)

    def parts(self):
        return self.mask.parts()

    def __call__(self, query_index, key_index):
        return negate(self.mask(query_index, key_index))

    def visible(self, grid):
        return negate(self.mask.visible(grid))

    def spans(self, span):
        some, every = self.mask.spans(span)
        return negate(every), negate(some)


def negate(value):
    """`not` for Python's booleans, elementwise for arrays and tensors."""
    return not value if isinstance(value, bool) else ~value


def min_known(*bounds):
    """Returns the least of the bounds that are known, or None."""
    return min((bound for bound in bounds if bound is not None), default=None)


def max_known(*bounds):
    """Returns the greatest of the bounds, or None if one is not known."""
    return None if None in bounds else max(bounds)


def check_pattern(name, mask):
    """Raises a `ValueError` unless `mask` is None or a pattern, and joins nothing but patterns."""
    for part in [] if check_slot(name, mask, Pattern) is None else mask.parts():
        if not isinstance(part, Pattern):
            raise ValueError(
                f"`{name}` must join patterns alone: {part.__class__.__name__} holds tensors of one call, which the "
                f"call's own arguments take. Received: {name}={short_repr(mask)}."
            )
    return mask


def check_mask(name, mask):
    """Raises a `ValueError` unless `mask` is a mask."""
    if not isinstance(mask, Mask):
        raise ValueError(f"Only masks can be joined by &, | and ~. Received: {name}={short_repr(mask)}.")
    return mask


def combine(*masks):
    """Joins the masks that are not None by "and"; None if there is none."""
    given = [mask for mask in masks if mask is not None]
    return functools.reduce(operator.and_, given) if given else None
