"""Mask objects: which key a query may see.

Two kinds share one algebra. *Patterns* (`Causal`, `Window`) are functions of the query's and
the key's index; they fill a layer's `mask=` slot and are saved with it. *Call masks*
(`Padding`, `Segments`, `Explicit`, `KeyLength`) hold tensors of one call; layers make them
from their arguments. `&` and `|` join any of them, and a kernel asks the whole for the
`Grid` of scores it is about to compute, so that no kernel ever has to hold all of them.
"""

import dataclasses
import functools
import operator
from typing import Any

import keras
from keras import ops

from keras_attn.checks import check_broadcast
from keras_attn.slots import Slot, register


@dataclasses.dataclass(frozen=True)
class Grid:
    """The plane of scores that a mask is asked about: every query against every key.

    Attributes:
        query_index: Index of each query among the keys, `[B or 1, 1, T, 1]`.
        key_index: Index of each key, `[1, 1, 1, S]`.
    """

    query_index: Any
    key_index: Any

    def queries(self, tensor):
        """Lays a tensor `[B, T]` along the grid's queries: `[B, 1, T, 1]`."""
        return tensor[:, None, :, None]

    def keys(self, tensor):
        """Lays a tensor `[B, S]` along the grid's keys: `[B, 1, 1, S]`."""
        return tensor[:, None, None, :]

    def cells(self, tensor):
        """Lays a tensor that broadcasts to `[B, H, T, S]` over the grid."""
        return tensor


class Mask(Slot):
    """What all masks share: `&`, `|` and the question `visible(grid)`."""

    def visible(self, grid):
        """Returns booleans that broadcast to `[B, H, T, S]`, True where a query may attend."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `visible(grid)`.")

    def __and__(self, other):
        return And(self, other)

    def __or__(self, other):
        return Or(self, other)


class Pattern(Mask):
    """A mask that is a function of indices: subclasses define `__call__`."""

    def __call__(self, query_index, key_index):
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `__call__`.")

    def visible(self, grid):
        return self(grid.query_index, grid.key_index)


@register
class Causal(Pattern):
    """A query sees the keys up to its own index: `key <= query`.

    With fewer queries than keys the last query sees every key (bottom-right alignment).

    >>> from keras_attn import masks
    >>> masks.Causal()(2, 3)
    False
    """

    def __call__(self, query_index, key_index):
        return key_index <= query_index


@register
class Window(Pattern):
    """A query sees `left` keys back and `right` keys ahead, itself counted in both.

    `Window(n)` lets query i see the keys i-n+1 ... i+n-1; `Causal() & Window(n)` the last n
    (Beltagy et al. 2020, arXiv:2004.05150).

    Args:
        left: Number of keys at or before the query, at least 1.
        right: Number of keys at or after it, at least 1; None means as many as `left`.

    >>> from keras_attn import masks
    >>> [key for key in range(9) if masks.Window(2)(4, key)]
    [3, 4, 5]
    """

    def __init__(self, left, right=None):
        for name, size in (("left", left), ("right", left if right is None else right)):
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"`{name}` of a Window must be an integer of at least 1. Received: {name}={size!r}.")
        self.left = left
        self.right = right

    def __call__(self, query_index, key_index):
        right = self.left if self.right is None else self.right
        distance = key_index - query_index
        return (distance > -self.left) & (distance < right)


class _Pair(Pattern):
    join: Any = None

    def __init__(self, first, second):
        for name, mask in (("first", first), ("second", second)):
            if not isinstance(mask, Mask):
                raise ValueError(f"Only masks can be joined by & and |. Received: {name}={mask!r}.")
        self.first = first
        self.second = second

    def __call__(self, query_index, key_index):
        return self.join(self.first(query_index, key_index), self.second(query_index, key_index))

    def visible(self, grid):
        return self.join(self.first.visible(grid), self.second.visible(grid))


@register
class And(_Pair):
    """Sees what both masks let through."""

    join = staticmethod(operator.and_)


@register
class Or(_Pair):
    """Sees what either mask lets through."""

    join = staticmethod(operator.or_)


class Padding(Mask):
    """Hides padded keys, and every key from a padded query.

    Args:
        query_mask: Boolean `[B, T]`, True for real positions, or None.
        key_mask: Boolean `[B, S]`, or None.
    """

    def __init__(self, query_mask=None, key_mask=None):
        self.query_mask = query_mask
        self.key_mask = key_mask

    def visible(self, grid):
        parts = []
        if self.query_mask is not None:
            parts.append(grid.queries(as_boolean("query_mask", self.query_mask)))
        if self.key_mask is not None:
            parts.append(grid.keys(as_boolean("key_mask", self.key_mask)))
        return functools.reduce(operator.and_, parts)


class Segments(Mask):
    """Packed sequences: a query sees the keys of its own segment; segment 0 is padding.

    Args:
        query_ids: Integers `[B, T]`.
        key_ids: Integers `[B, S]`.
    """

    def __init__(self, query_ids, key_ids):
        self.query_ids = query_ids
        self.key_ids = key_ids

    def visible(self, grid):
        query_ids = grid.queries(ops.cast(self.query_ids, "int32"))
        key_ids = grid.keys(ops.cast(self.key_ids, "int32"))
        return ops.equal(query_ids, key_ids) & ops.not_equal(query_ids, 0)


class Explicit(Mask):
    """A mask given as a tensor.

    Args:
        tensor: Boolean, broadcasts to `[B, H, T, S]`; `[B, T, S]` gets its head axis.
    """

    def __init__(self, tensor):
        tensor = as_boolean("mask", tensor)
        self.tensor = tensor[:, None] if len(tensor.shape) == 3 else tensor

    def visible(self, grid):
        return grid.cells(self.tensor)


class KeyLength(Mask):
    """Hides the keys from each row's length on: the unused end of a fixed-size cache.

    Args:
        lengths: Integers `[B]`.
    """

    def __init__(self, lengths):
        self.lengths = lengths

    def visible(self, grid):
        return grid.key_index < ops.reshape(ops.cast(self.lengths, "int32"), (-1, 1, 1, 1))


def combine(*masks):
    """Joins the masks that are not None by "and"; None if there is none."""
    given = [mask for mask in masks if mask is not None]
    return functools.reduce(operator.and_, given) if given else None


def padding(query_mask, key_mask):
    """Returns a `Padding`, or None where neither mask is given."""
    return None if query_mask is None and key_mask is None else Padding(query_mask, key_mask)


def segments(query_ids, key_ids):
    """Returns `Segments`, or None where no ids are given.

    Raises:
        ValueError: If only one of the two is given.
    """
    if query_ids is None and key_ids is None:
        return None
    if query_ids is None or key_ids is None:
        missing = "query" if query_ids is None else "memory"
        raise ValueError(f"Segment ids must be given for queries and memory alike. Received: none for the {missing}.")
    return Segments(query_ids, key_ids)


def explicit(tensor):
    """Returns an `Explicit` mask, or None where there is no tensor."""
    return None if tensor is None else Explicit(tensor)


def first_given(*masks):
    """Returns the first mask that is not None, or None: an explicit mask wins over one Keras filled in."""
    return next((mask for mask in masks if mask is not None), None)


def hide(tensor, mask):
    """Returns `tensor` `[B, T, D]` with zeros where `mask` `[B, T]` is False.

    This is the door at which NaN and infinity in padding stop. The result carries no Keras
    mask of its own.
    """
    return tensor if mask is None else ops.where(as_boolean("mask", mask)[..., None], tensor, 0)


def check_attention_mask(name, mask, letters, sizes):
    """Raises unless `mask` is boolean (or integer) and broadcasts to the axes `letters` (B H T S)."""
    check_boolean(name, mask)
    without_heads = letters.replace("H", "") if len(mask.shape) == 3 else letters
    check_broadcast(name, mask, without_heads, sizes)


def as_boolean(name, mask):
    """Returns `mask` as booleans; integers count as True unless zero."""
    check_boolean(name, mask)
    return ops.cast(mask, "bool")


def check_boolean(name, mask):
    """Raises a `ValueError` for masks of floating point, which would be additive elsewhere."""
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(mask.dtype)):
        raise ValueError(
            f"`{name}` must be boolean, True where a query may attend. Received: {name}.dtype={mask.dtype}. "
            "Scores to be added go into `bias`."
        )
