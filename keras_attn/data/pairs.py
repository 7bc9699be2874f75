"""Encoded pairs in memory: two flat arrays of ids, and where each text begins."""

import dataclasses

import numpy as np

from keras_attn.base.special_ids import SpecialIds
from keras_attn.data.report import Report


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Texts of ids, one behind the other.

    Attributes:
        values: Ids int32 `[N]`, each text with its end id.
        lengths: Their lengths int64 `[P]`, each at least 1.
        starts: Where each text begins, int64 `[P]`.
    """

    values: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "starts", np.cumsum(self.lengths) - self.lengths)

    def __getitem__(self, index):
        return self.values[self.starts[index] : self.starts[index] + self.lengths[index]]

    def take(self, texts):
        """Returns the ids of texts `[n]`, one behind the other."""
        return self.values[ranges(self.starts[texts], self.lengths[texts])]


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of ids in memory, about 4 bytes a token, made by `encode`.

    Attributes:
        numbers: Which pair or line each of them was in the data set, from 1, integers `[P]`.
        source, target: The sides: `source[i]` are the ids of a text, the end id behind them.
        cut: Which of them lost an end, boolean `[P]`.
        report: The `Report` of what was read, cut and left out.
        special_ids: The `SpecialIds` of both sides.
    """

    numbers: np.ndarray
    source: Ragged
    target: Ragged
    cut: np.ndarray
    report: Report
    special_ids: SpecialIds = dataclasses.field(default_factory=SpecialIds)

    def __len__(self):
        return len(self.source.lengths)

    @property
    def lengths(self):
        """Positions of both sides, end ids counted, integers `[P, 2]`."""
        return np.stack([self.source.lengths, self.target.lengths], axis=1)

    def __getitem__(self, index):
        return self.source[index], self.target[index]


def ranges(starts, lengths):
    """Returns `starts[i] ... starts[i] + lengths[i] - 1` for every i, one behind the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
