"""How pairs become the rows of batches: padded, in buckets of similar lengths, or packed."""

import dataclasses
import itertools

import numpy as np

from keras_attn.base.checks import check_positive
from keras_attn.base.slot import Slot, register
from keras_attn.data.packing import Places, first_fit


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of a kind of batches.

    Attributes:
        num_rows: Number of rows B.
        source_length, target_length: S and T; None for the longest pair of each batch.
    """

    num_rows: int
    source_length: int | None = None
    target_length: int | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where all pairs of a data set stand: the same rows in every epoch.

    Attributes:
        places: The `Places` of the pairs.
        row_shape: Which of the `shapes` each row belongs to, integers `[R]`.
        shapes: The `Shape`s of the batches.
    """

    places: Places
    row_shape: np.ndarray
    shapes: tuple[Shape, ...]


class Layout(Slot):
    """What fills the `layout` slot of `Batches`; abstract.

    Attributes:
        packed: Whether rows hold several pairs, so that inputs need segment ids and positions.
    """

    packed = False

    def fits(self, lengths):
        """Returns which pairs there is room for, `[P]`, for the lengths of both sides `[P, 2]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `fits(lengths)`.")

    def plan(self, lengths):
        """Returns the `Plan` of pairs that fit, for the lengths of both sides `[P, 2]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `plan(lengths)`.")


@register
class Padded(Layout):
    """A pair per row, padded to the longest of its batch: nearly every batch has a shape of its own.

    Args:
        batch_size: Number of rows B.

    Example:
    >>> from keras_attn.data import Padded
    >>> layout = Padded(batch_size=64)
    """

    def __init__(self, batch_size):
        check_positive("batch_size", batch_size)
        self.batch_size = batch_size

    def fits(self, lengths):
        return np.ones(len(lengths), bool)

    def plan(self, lengths):
        return Plan(one_per_row(len(lengths)), np.zeros(len(lengths), "int64"), (Shape(self.batch_size),))


@register
class Bucketed(Layout):
    """A pair per row, padded to the least boundary that has room for both sides: as many shapes as boundaries.

    Args:
        boundaries: Lengths of the buckets, rising; see `boundaries`. Longer pairs are left out.
        tokens: Positions of a batch on each side: a bucket of length n has `tokens // n` rows,
            down to a multiple of `multiple_of`, and at least that many.
        multiple_of: What numbers of rows are a multiple of, for instance the number of replicas.

    Raises:
        ValueError: If the boundaries do not rise, or numbers are no positive integers.

    Example:
    >>> from keras_attn.data import Bucketed
    >>> layout = Bucketed(boundaries=(8, 16, 32), tokens=1024)
    >>> [shape.num_rows for shape in layout.shapes]
    [128, 64, 32]
    """

    def __init__(self, boundaries, tokens, multiple_of=1):
        boundaries = tuple(boundaries)
        for boundary in boundaries:
            check_positive("boundaries", boundary)
        if not boundaries or any(low >= high for low, high in itertools.pairwise(boundaries)):
            raise ValueError(f"`boundaries` must be rising lengths. Received: boundaries={boundaries}.")
        check_positive("tokens", tokens)
        check_positive("multiple_of", multiple_of)
        self.boundaries = boundaries
        self.tokens = tokens
        self.multiple_of = multiple_of

    @property
    def shapes(self):
        """The `Shape` of each bucket."""
        part = self.multiple_of
        return tuple(Shape(max(part, self.tokens // n // part * part), n, n) for n in self.boundaries)

    def fits(self, lengths):
        return lengths.max(axis=1) <= self.boundaries[-1]

    def plan(self, lengths):
        return Plan(one_per_row(len(lengths)), np.searchsorted(self.boundaries, lengths.max(axis=1)), self.shapes)


@register
class Packed(Layout):
    """Several pairs per row, told apart by segment ids: one shape, and next to no padding.

    Each pair goes into the first row with room for both of its sides. Inputs also hold
    `source_segment_ids`, `source_positions`, `target_segment_ids` and `target_positions`, which
    `models.Transformer` reads.

    Args:
        source_length, target_length: Positions of a row, best in the proportion of the data's
            lengths; see `Packed.balanced`. Longer pairs are left out.
        batch_size: Number of rows B.
        window: Number of pairs that are packed at a time.

    Raises:
        ValueError: If numbers are no positive integers.

    Example:
    >>> from keras_attn.data import Packed
    >>> layout = Packed(source_length=128, target_length=112, batch_size=16)

    References:
        Raffel et al. 2020, arXiv:1910.10683, section 3.1; Krell et al. 2021, Efficient Sequence
        Packing without Cross-contamination, arXiv:2107.02027.
    """

    packed = True

    def __init__(self, source_length, target_length, batch_size, window=8192):
        for name, value in (("source_length", source_length), ("target_length", target_length)):
            check_positive(name, value)
        check_positive("batch_size", batch_size)
        check_positive("window", window)
        self.source_length = source_length
        self.target_length = target_length
        self.batch_size = batch_size
        self.window = window

    @classmethod
    def balanced(cls, pairs, positions, batch_size):
        """Returns the layout whose rows are shared by the sides as the data's tokens are.

        Args:
            pairs: The `Pairs`.
            positions: Positions of a row, source and target together; the longest texts get
                their room in any case.
            batch_size: Number of rows B.
        """
        check_positive("positions", positions)
        lengths = pairs.lengths
        source, target = lengths.sum(axis=0)
        longest_source, longest_target = (int(longest) for longest in lengths.max(axis=0))
        source_length = max(longest_source, round(positions * int(source) / int(source + target)))
        return cls(source_length, max(longest_target, positions - source_length), batch_size)

    def fits(self, lengths):
        return (lengths <= (self.source_length, self.target_length)).all(axis=1)

    def plan(self, lengths):
        places = first_fit(lengths, (self.source_length, self.target_length), self.window)
        shape = Shape(self.batch_size, self.source_length, self.target_length)
        return Plan(places, np.zeros(places.row.max() + 1, "int64"), (shape,))


def one_per_row(num_pairs):
    """Returns the `Places` of pairs that have a row each."""
    zeros = np.zeros(num_pairs, "int64")
    return Places(np.arange(num_pairs), zeros, zeros, zeros + 1)
