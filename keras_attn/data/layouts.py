"""Layouts of pairs in the rows of batches: padded, in buckets of similar lengths, or packed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from keras_attn.base.checks import check_positive
from keras_attn.base.slot import Slot, register
from keras_attn.data.packing import Places, first_fit
from keras_attn.data.pairs import Pairs


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """The shape of a batch.

    Attributes:
        num_rows: Number of rows B.
        source_length, target_length: S and T; None for the length of the longest text of each batch.
    """

    num_rows: int
    source_length: int | None = None
    target_length: int | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The places of all pairs of a data set, with the same rows in every epoch.

    Attributes:
        places: The `Places` of the pairs.
        row_shape: Index of the shape in `shapes` of each row, integers `[R]`.
        shapes: The `BatchShape`s of the batches.
    """

    places: Places
    row_shape: np.ndarray
    shapes: tuple[BatchShape, ...]


class Layout(Slot):
    """Base class of the layouts of `Batches`; abstract.

    Attributes:
        packed: Whether rows contain several pairs, so that inputs need segment ids and positions.
    """

    packed: bool = False

    def fits(self, lengths: np.ndarray) -> np.ndarray:
        """Returns which pairs fit, boolean `[P]`, for the lengths of both sides `[P, 2]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `fits(lengths)`.")

    def plan(self, lengths: np.ndarray) -> Plan:
        """Returns the `Plan` of pairs that fit, for the lengths of both sides `[P, 2]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `plan(lengths)`.")


@register
class Padded(Layout):
    """One pair per row, padded to the longest text of its batch: nearly every batch has a different shape.

    Args:
        batch_size: Number of rows B.

    Example:
    >>> from keras_attn.data import Padded
    >>> layout = Padded(batch_size=64)
    """

    def __init__(self, batch_size: int) -> None:
        check_positive("batch_size", batch_size)
        self.batch_size = batch_size

    def fits(self, lengths: np.ndarray) -> np.ndarray:
        return np.ones(len(lengths), bool)

    def plan(self, lengths: np.ndarray) -> Plan:
        return Plan(one_per_row(len(lengths)), np.zeros(len(lengths), "int64"), (BatchShape(self.batch_size),))


@register
class Bucketed(Layout):
    """One pair per row, padded to the smallest boundary with room for both sides: one shape per boundary.

    Args:
        boundaries: Lengths of the buckets, increasing; see `boundaries`. Longer pairs are dropped.
        tokens: Positions of a batch on each side: a bucket of length n has `tokens // n` rows,
            rounded down to a multiple of `multiple_of`, and at least `multiple_of`.
        multiple_of: Divides the number of rows, for instance the number of replicas.

    Raises:
        ValueError: If the boundaries do not increase, or numbers are not positive integers.

    Example:
    >>> from keras_attn.data import Bucketed
    >>> layout = Bucketed(boundaries=(8, 16, 32), tokens=1024)
    >>> [shape.num_rows for shape in layout.shapes]
    [128, 64, 32]
    """

    def __init__(self, boundaries: Iterable[int], tokens: int, multiple_of: int = 1) -> None:
        boundaries = tuple(boundaries)
        for boundary in boundaries:
            check_positive("boundaries", boundary)
        if not boundaries or any(low >= high for low, high in itertools.pairwise(boundaries)):
            raise ValueError(f"`boundaries` must be increasing lengths. Received: boundaries={boundaries}.")
        check_positive("tokens", tokens)
        check_positive("multiple_of", multiple_of)
        self.boundaries = boundaries
        self.tokens = tokens
        self.multiple_of = multiple_of

    @property
    def shapes(self) -> tuple[BatchShape, ...]:
        """The `BatchShape` of each bucket."""
        part = self.multiple_of
        return tuple(BatchShape(max(part, self.tokens // n // part * part), n, n) for n in self.boundaries)

    def fits(self, lengths: np.ndarray) -> np.ndarray:
        return lengths.max(axis=1) <= self.boundaries[-1]

    def plan(self, lengths: np.ndarray) -> Plan:
        return Plan(one_per_row(len(lengths)), np.searchsorted(self.boundaries, lengths.max(axis=1)), self.shapes)


@register
class Packed(Layout):
    """Several pairs per row, separated by segment ids: one shape, and almost no padding.

    Each pair goes into the first row with room for both of its sides. Inputs also contain
    `source_segment_ids`, `source_positions`, `target_segment_ids` and `target_positions`, which
    `models.Transformer` reads.

    Args:
        source_length, target_length: Positions of a row, best in the proportion of the lengths in the
            data; see `Packed.balanced`. Longer pairs are dropped.
        batch_size: Number of rows B.
        window: Number of pairs that are packed at a time.

    Raises:
        ValueError: If numbers are not positive integers.

    Example:
    >>> from keras_attn.data import Packed
    >>> layout = Packed(source_length=128, target_length=112, batch_size=16)

    References:
        Raffel et al. 2020, arXiv:1910.10683, section 3.1; Krell et al. 2021, Efficient Sequence
        Packing without Cross-contamination, arXiv:2107.02027.
    """

    packed = True

    def __init__(self, source_length: int, target_length: int, batch_size: int, window: int = 8192) -> None:
        for name, value in (("source_length", source_length), ("target_length", target_length)):
            check_positive(name, value)
        check_positive("batch_size", batch_size)
        check_positive("window", window)
        self.source_length = source_length
        self.target_length = target_length
        self.batch_size = batch_size
        self.window = window

    @classmethod
    def balanced(cls, pairs: Pairs, positions: int, batch_size: int) -> Packed:
        """Returns a layout that divides a row between the sides in the proportion of their tokens in the data.

        Args:
            pairs: The `Pairs`.
            positions: Positions of a row, source and target together; more if the longest texts need
                them.
            batch_size: Number of rows B.
        """
        check_positive("positions", positions)
        lengths = pairs.lengths
        source, target = lengths.sum(axis=0)
        longest_source, longest_target = (int(longest) for longest in lengths.max(axis=0))
        source_length = max(longest_source, round(positions * int(source) / int(source + target)))
        return cls(source_length, max(longest_target, positions - source_length), batch_size)

    def fits(self, lengths: np.ndarray) -> np.ndarray:
        return np.all(np.less_equal(lengths, (self.source_length, self.target_length)), axis=1)

    def plan(self, lengths: np.ndarray) -> Plan:
        places = first_fit(lengths, (self.source_length, self.target_length), self.window)
        shape = BatchShape(self.batch_size, self.source_length, self.target_length)
        return Plan(places, np.zeros(places.row.max() + 1, "int64"), (shape,))


def one_per_row(num_pairs: int) -> Places:
    """Returns the `Places` of pairs with one row each."""
    zeros = np.zeros(num_pairs, "int64")
    return Places(np.arange(num_pairs), zeros, zeros, zeros + 1)
