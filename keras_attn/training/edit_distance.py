"""Edit distances of a batch of sequences, in eager mode, in graphs and under XLA."""

from __future__ import annotations

from typing import TypeAlias

from keras import ops

from keras_attn.backend import fori
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.types import Tensor

SidePair: TypeAlias = tuple[Tensor, Tensor]
"""Tensors `[B, T]` and `[B, L]`, for the first and for the second sequences."""


def cut_at_end(ids: Tensor, special_ids: SpecialIds) -> Tensor:
    """Returns ids `[B, T]`, with `special_ids.absent` from the first end id or padding on."""
    ends = ops.logical_or(ops.equal(ids, special_ids.end), ops.equal(ids, special_ids.absent))
    ended = ops.cumsum(ops.cast(ends, "int32"), axis=-1, dtype="int32")
    return ops.where(ops.equal(ended, 0), ids, special_ids.absent)


def edit_distances(
    first: Tensor, second: Tensor, costs: SidePair | None = None, texts: SidePair | None = None
) -> Tensor:
    """Counts the insertions, deletions and substitutions that turn one sequence into another.

    `d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i != b_j])`, `d(i, 0) = i`,
    `d(0, j) = j`, with costs instead of the ones. The cells of a diagonal `i + j` depend only on the two
    diagonals before it, so T + L steps compute all cells, T + 1 at a time.

    Args:
        first: Ids int32 `[B, T]`.
        second: Ids int32 `[B, L]`.
        costs: Cost of an edit of each token, `[B, T]` and `[B, L]`: equal for all tokens of a text, 0 where
            there is no token. By default 1 for tokens and 0 for padding.
        texts: Number of each token's text in its row, int32 `[B, T]` and `[B, L]`: a token can only be
            substituted by a token of the same text. None for one text per row.

    Returns:
        Distances `[B]`, int32 or in the dtype of the costs.
    """
    if costs is None:
        is_real = SpecialIds().is_real
        costs = ops.cast(is_real(first), "int32"), ops.cast(is_real(second), "int32")
    if texts is None:
        texts = ops.zeros_like(first), ops.zeros_like(second)
    length, width = ops.shape(first)[1], ops.shape(second)[1]
    dtype = costs[0].dtype
    # [B, T + 1] and [B, L + 1]: an entry of cost 0 before the first token
    first, deletion, texts_of_first, second, insertion, texts_of_second = (
        ops.pad(side, [(0, 0), (1, 0)]) for side in (first, costs[0], texts[0], second, costs[1], texts[1])
    )
    all_deleted, all_inserted = (ops.cumsum(side, axis=1, dtype=dtype) for side in (deletion, insertion))
    rows = ops.arange(length + 1, dtype="int32")  # i

    def step(diagonal: Tensor, carry: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        older, newer = carry  # the two previous diagonals, `[B, T + 1]`
        columns = ops.cast(diagonal, "int32") - rows  # j
        places = ops.clip(columns, 0, width)
        inserted = ops.take(insertion, places, axis=1)
        pairs = ops.logical_and(
            ops.equal(texts_of_first, ops.take(texts_of_second, places, axis=1)),
            ops.not_equal(deletion * inserted, 0),
        )
        same = ops.equal(first, ops.take(second, places, axis=1))
        # A pair that must not be substituted is deleted and inserted.
        substitution = ops.where(pairs, ops.where(same, ops.zeros_like(deletion), deletion), deletion + inserted)
        cells = ops.minimum(shifted(newer) + deletion, newer + inserted)
        cells = ops.cast(ops.minimum(cells, shifted(older) + substitution), dtype)
        cells = ops.where(ops.equal(columns, 0), all_deleted, cells)
        cells = ops.where(ops.equal(rows, 0), ops.take(all_inserted, places, axis=1), cells)
        return newer, cells

    zeros = ops.zeros_like(deletion)
    return fori(1, length + width + 1, step, (zeros, zeros))[1][:, -1]


def shifted(cells: Tensor) -> Tensor:
    """Returns the cells shifted by one row, `[B, T + 1]`; the value of the first row is not used."""
    return ops.concatenate([cells[:, :1], cells[:, :-1]], axis=1)
