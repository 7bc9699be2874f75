"""The order of an epoch: which pair fills which place, which rows share a batch, and when a batch comes."""

import numpy as np

from keras_attn.data.packing import Places
from keras_attn.data.pairs import ranges


class Order:
    """Shuffles pairs over the places that a layout planned for them.

    Rows are planned once. An epoch lets pairs of equal lengths change places, so that rows hold
    other pairs and yet as many tokens, draws which rows of a shape share a batch, and shuffles the
    batches.

    Args:
        lengths: Lengths of both sides of the pairs, integers `[P, 2]`.
        layout: The `Layout` with room for them.
    """

    def __init__(self, lengths, layout):
        self.plan = layout.plan(lengths)
        self.kinds = lengths[:, 0] * (lengths[:, 1].max() + 1) + lengths[:, 1]  # equal for equal lengths
        self.places = np.argsort(self.plan.places.row, kind="stable")  # row by row
        self.row_sizes = np.bincount(self.plan.places.row)
        self.row_starts = np.cumsum(self.row_sizes) - self.row_sizes
        self.rows = [np.flatnonzero(self.plan.row_shape == index) for index in range(len(self.plan.shapes))]

    @property
    def num_batches(self):
        """Number of batches of every epoch."""
        return sum(-(-len(rows) // shape.num_rows) for rows, shape in zip(self.rows, self.plan.shapes, strict=True))

    def batches(self, rng):
        """Yields the `Shape`, the pairs `[n]` and their `Places` in the batch, rows counted from 0, of each batch."""
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


def shuffled_within(kinds, rng):
    """Returns a permutation `[P]` drawn among those that put every index in the place of one of its kind.

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
