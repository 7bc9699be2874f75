"""The edit distances of a batch of sequences, all at once: runs eagerly, in a graph and under XLA."""

from keras import ops

from keras_attn.kernels.backend import fori
from keras_attn.special_ids import END_ID, PADDING_ID


def cut(ids):
    """Returns ids `[B, T]` with padding from the first end id or padding on."""
    ends = ops.logical_or(ops.equal(ids, END_ID), ops.equal(ids, PADDING_ID))
    ended = ops.cumsum(ops.cast(ends, "int32"), axis=-1, dtype="int32")
    return ops.where(ops.equal(ended, 0), ids, PADDING_ID)


def lengths(ids):
    """Returns how many ids of `[B, T]` are not padding, int32 `[B]`."""
    return ops.cast(ops.sum(ops.cast(ops.not_equal(ids, PADDING_ID), "int32"), axis=-1), "int32")


def edit_distances(first, second):
    """Counts the insertions, deletions and substitutions that turn one sequence into another.

    `d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i != b_j])`, `d(i, 0) = i`,
    `d(0, j) = j`. The cells of one diagonal `i + j` depend on the two diagonals before it alone, so
    that T + L steps of T + 1 cells each do.

    Args:
        first: Ids int32 `[B, T]`, padding at the end of a row.
        second: Ids int32 `[B, L]`, padding at the end of a row.

    Returns:
        int32 `[B]`.
    """
    first_lengths = lengths(first)
    last = first_lengths + lengths(second)
    (batch, length), width = ops.shape(first), ops.shape(second)[1]
    second = ops.pad(second, [(0, 0), (0, 1)])  # there is something to read in an empty sequence too
    before = ops.full((batch, 1), -1, "int32")  # stands before the first token, equal to none
    first = ops.concatenate([before, first], axis=1)  # [B, T + 1]
    rows = ops.arange(length + 1, dtype="int32")  # i

    def step(diagonal, carry):
        older, newer, found = carry  # d(i, j) with i + j two and one less, `[B, T + 1]`; results `[B]`
        diagonal = ops.cast(diagonal, "int32")
        columns = diagonal - rows  # j
        tokens = ops.take(second, ops.clip(columns - 1, 0, width), axis=1)
        substituted = shifted(older) + ops.cast(ops.not_equal(first, tokens), "int32")
        inserted_or_deleted = ops.minimum(shifted(newer), newer) + 1
        cells = ops.minimum(substituted, inserted_or_deleted)
        cells = ops.where(ops.logical_or(ops.equal(rows, 0), ops.equal(columns, 0)), diagonal, cells)
        here = ops.take_along_axis(cells, first_lengths[:, None], axis=1)[:, 0]
        return newer, cells, ops.where(ops.equal(last, diagonal), here, found)

    zeros = ops.zeros((batch, length + 1), "int32")
    return fori(1, length + width + 1, step, (zeros, zeros, ops.zeros_like(last)))[2]


def shifted(cells):
    """Returns the cells of the rows before, `[B, T + 1]`; what the first row gets is never used."""
    return ops.concatenate([cells[:, :1], cells[:, :-1]], axis=1)
