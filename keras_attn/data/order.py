"""The order of an epoch: the place of each pair, the rows of each batch, and the order of the batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_attn.data.layouts import BatchShape, Layout
from keras_attn.data.packing import Places
from keras_attn.data.pairs import ranges


class Order:
    """Shuffles pairs over the places that a layout planned for them.

    Rows are planned once. Each epoch permutes pairs of equal lengths, so that a row contains other pairs
    with the same number of tokens. It then groups the rows of each shape into batches at random, and
    shuffles the batches.

    Args:
        lengths: Lengths of both sides of the pairs, integers `[P, 2]`.
        layout: A `Layout` that all pairs fit.
    """

    def __init__(self, lengths: np.ndarray, layout: Layout) -> None:
        self.plan = layout.plan(lengths)
        self.kinds = lengths[:, 0] * (lengths[:, 1].max() + 1) + lengths[:, 1]  # equal for equal lengths
        self.places = np.argsort(self.plan.places.row, kind="stable")  # row by row
        self.row_sizes = np.bincount(self.plan.places.row)
        self.row_starts = np.cumsum(self.row_sizes) - self.row_sizes
        self.rows = [np.flatnonzero(self.plan.row_shape == index) for index in range(len(self.plan.shapes))]

    @property
    def num_batches(self) -> int:
        """Number of batches of every epoch."""
        return sum(-(-len(rows) // shape.num_rows) for rows, shape in zip(self.rows, self.plan.shapes, strict=True))

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[BatchShape, np.ndarray, Places]]:
        """Yields for each batch the `BatchShape`, the pairs `[n]`, and their `Places` with rows counted from 0."""
        pairs = shuffled_within(self.kinds, rng)
        batches = []
        for rows, shape in zip(self.rows, self.plan.shapes, strict=True):
            rows = rng.permutation(rows)
            batches += [(shape, rows[first : first + shape.num_rows]) for first in range(0, len(rows), shape.num_rows)]
        for index in rng.permutation(len(batches)):
            shape, rows = batches[index]
            sizes = self.row_sizes[rows]
            chosen = self.places[ranges(self.row_starts[rows], sizes)]
            places = Places(*(each[chosen] for each in self.plan.places))
            yield shape, pairs[chosen], places._replace(row=np.repeat(np.arange(len(rows)), sizes))


def shuffled_within(kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a random permutation `[P]` that moves each index only to places of the same kind.

    Example:
    >>> import numpy as np
    >>> from keras_attn.data.order import shuffled_within
    >>> kinds = np.array([7, 8, 7, 8, 9])
    >>> kinds[shuffled_within(kinds, np.random.default_rng(0))].tolist()
    [7, 8, 7, 8, 9]
    """
    permutation = np.empty(len(kinds), "int64")
    permutation[np.argsort(kinds, kind="stable")] = np.lexsort((rng.random(len(kinds)), kinds))
    return permutation
