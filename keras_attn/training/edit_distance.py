"""The edit distances of a batch of sequences, all at once: runs eagerly, in a graph and under XLA."""

from keras import ops

from keras_attn.backend import fori
from keras_attn.base.special_ids import SpecialIds


def cut(ids, special_ids):
    """Returns ids `[B, T]` with `special_ids.absent` from the first end id or padding on."""
    ends = ops.logical_or(ops.equal(ids, special_ids.end), ops.equal(ids, special_ids.absent))
    ended = ops.cumsum(ops.cast(ends, "int32"), axis=-1, dtype="int32")
    return ops.where(ops.equal(ended, 0), ids, special_ids.absent)


def edit_distances(first, second, costs=None, texts=None):
    """Counts the insertions, deletions and substitutions that turn one sequence into another.

    `d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i != b_j])`, `d(i, 0) = i`,
    `d(0, j) = j`, with costs in place of the ones. The cells of one diagonal `i + j` depend on the two
    diagonals before it alone, so that T + L steps of T + 1 cells each do.

    Args:
        first: Ids int32 `[B, T]`.
        second: Ids int32 `[B, L]`.
        costs: What each edit of a token costs, a pair of `[B, T]` and `[B, L]`, equal for all tokens of a
            text, and 0 where no token counts; by default 1 for tokens and 0 for padding.
        texts: Number of each token's text in its row, a pair of int32 `[B, T]` and `[B, L]`: tokens are
            substituted within a text only. None for one text in a row.

    Returns:
        `[B]`, int32 or of the dtype of the costs.
    """
    if costs is None:
        costs = tuple(ops.cast(SpecialIds().is_real(side), "int32") for side in (first, second))
    if texts is None:
        texts = tuple(ops.zeros_like(side) for side in (first, second))
    length, width = ops.shape(first)[1], ops.shape(second)[1]
    dtype = costs[0].dtype
    # [B, T + 1] and [B, L + 1]: a place before the first token, which costs nothing
    first, deletion, texts_of_first, second, insertion, texts_of_second = (
        ops.pad(side, [(0, 0), (1, 0)]) for side in (first, costs[0], texts[0], second, costs[1], texts[1])
    )
    all_deleted, all_inserted = (ops.cumsum(side, axis=1, dtype=dtype) for side in (deletion, insertion))
    rows = ops.arange(length + 1, dtype="int32")  # i

    def step(diagonal, carry):
        older, newer = carry  # d(i, j) with i + j two and one less, `[B, T + 1]`
        columns = ops.cast(diagonal, "int32") - rows  # j
        places = ops.clip(columns, 0, width)
        inserted = ops.take(insertion, places, axis=1)
        pairs = ops.logical_and(
            ops.equal(texts_of_first, ops.take(texts_of_second, places, axis=1)),
            ops.not_equal(deletion * inserted, 0),
        )
        same = ops.equal(first, ops.take(second, places, axis=1))
        # What cannot be substituted is deleted and inserted.
        substitution = ops.where(pairs, ops.where(same, ops.zeros_like(deletion), deletion), deletion + inserted)
        cells = ops.minimum(shifted(newer) + deletion, newer + inserted)
        cells = ops.cast(ops.minimum(cells, shifted(older) + substitution), dtype)
        cells = ops.where(ops.equal(columns, 0), all_deleted, cells)
        cells = ops.where(ops.equal(rows, 0), ops.take(all_inserted, places, axis=1), cells)
        return newer, cells

    zeros = ops.zeros_like(deletion)
    return fori(1, length + width + 1, step, (zeros, zeros))[1][:, -1]


def shifted(cells):
    """Returns the cells of the rows before, `[B, T + 1]`; what the first row gets is never used."""
    return ops.concatenate([cells[:, :1], cells[:, :-1]], axis=1)
