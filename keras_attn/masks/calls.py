"""Call masks contain the tensors of one call. Layers create them from arguments and combine them with their pattern."""

from __future__ import annotations

import functools
import operator

from keras import ops

from keras_attn.base.checks import as_boolean, check_boolean
from keras_attn.base.tensors import to_tensor
from keras_attn.base.types import ArrayLike, Tensor
from keras_attn.masks.algebra import Coverage, Grid, Mask, Rectangle


class Padding(Mask):
    """Hides padded keys from all queries, and all keys from padded queries.

    Args:
        query_mask: Boolean `[B, T]`, False at padding, or None.
        key_mask: Boolean `[B, S]`, False at padding, or None.

    Raises:
        ValueError: If both are None.
    """

    def __init__(self, query_mask: ArrayLike | None = None, key_mask: ArrayLike | None = None) -> None:
        if query_mask is None and key_mask is None:
            raise ValueError("`Padding` needs a `query_mask` or a `key_mask`. Received: neither.")
        self.query_mask = query_mask
        self.key_mask = key_mask

    def visible(self, grid: Grid) -> Tensor:
        parts = []
        if self.query_mask is not None:
            parts.append(grid.queries(as_boolean("query_mask", self.query_mask)))
        if self.key_mask is not None:
            parts.append(grid.keys(as_boolean("key_mask", self.key_mask)))
        return functools.reduce(operator.and_, parts)


class Segments(Mask):
    """Packed sequences: a query attends to the keys of its own segment; segment 0 is padding.

    Args:
        query_ids: Integers `[B, T]`.
        key_ids: Integers `[B, S]`.
    """

    def __init__(self, query_ids: ArrayLike, key_ids: ArrayLike) -> None:
        self.query_ids = query_ids
        self.key_ids = key_ids

    def visible(self, grid: Grid) -> Tensor:
        query_ids = grid.queries(to_tensor("segment_ids", self.query_ids, "int32"))
        key_ids = grid.keys(to_tensor("segment_ids", self.key_ids, "int32"))
        return ops.equal(query_ids, key_ids) & ops.not_equal(query_ids, 0)


class Explicit(Mask):
    """A mask given as a tensor.

    Args:
        tensor: Boolean, broadcasts to `[B, H, T, S]`; `[B, T, S]` is treated as `[B, 1, T, S]`.
    """

    def __init__(self, tensor: Tensor) -> None:
        check_boolean("mask", tensor)
        tensor = ops.cast(tensor, "bool")
        self.tensor = ops.expand_dims(tensor, 1) if len(tensor.shape) == 3 else tensor

    def visible(self, grid: Grid) -> Tensor:
        return grid.cells(self.tensor)


class KeyLength(Mask):
    """Hides the keys at and after each row's length: the unused end of a fixed-size cache.

    Args:
        lengths: Integers `[B]`.
    """

    def __init__(self, lengths: ArrayLike) -> None:
        self.lengths = lengths

    def visible(self, grid: Grid) -> Tensor:
        return grid.key_index < ops.reshape(to_tensor("lengths", self.lengths, "int32"), (-1, 1, 1, 1))

    def coverage(self, rectangle: Rectangle) -> Coverage:
        lengths = to_tensor("lengths", self.lengths, "int32")
        shortest, longest = ops.min(lengths), ops.max(lengths)
        return Coverage(rectangle.key_low < longest, rectangle.key_high < shortest)


def padding(query_mask: ArrayLike | None, key_mask: ArrayLike | None) -> Padding | None:
    """Returns a `Padding`, or None if both masks are None."""
    return None if query_mask is None and key_mask is None else Padding(query_mask, key_mask)


def segments(query_ids: ArrayLike | None, key_ids: ArrayLike | None) -> Segments | None:
    """Returns `Segments`, or None if `query_ids` or `key_ids` is None."""
    return None if query_ids is None or key_ids is None else Segments(query_ids, key_ids)


def explicit(tensor: Tensor | None) -> Explicit | None:
    """Returns an `Explicit` mask, or None if `tensor` is None."""
    return None if tensor is None else Explicit(tensor)


def first_not_none(*masks: Tensor | None) -> Tensor | None:
    """Returns the first mask that is not None, or None: an explicit mask takes precedence over one set by Keras."""
    return next((mask for mask in masks if mask is not None), None)


def real_positions(mask: ArrayLike | None, segment_ids: ArrayLike | None) -> Tensor | None:
    """Returns the padding mask `[B, T]` that combines `mask` and segment 0, or None."""
    if segment_ids is None:
        return mask
    real = ops.not_equal(to_tensor("segment_ids", segment_ids, "int32"), 0)
    return real if mask is None else ops.logical_and(as_boolean("mask", mask), real)


def hide(tensor: Tensor, mask: ArrayLike | None) -> Tensor:
    """Returns `tensor` `[B, T, D]` with zeros where `mask` `[B, T]` is False.

    This removes NaN and infinity from padding. The result has no Keras mask.
    """
    return tensor if mask is None else ops.where(ops.expand_dims(as_boolean("mask", mask), -1), tensor, 0)
