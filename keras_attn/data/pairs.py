"""Encoded pairs in memory: a flat array of ids for each side, and the start of each text."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_attn.base.special_ids import SpecialIds
from keras_attn.data.report import Report


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Texts as ids, concatenated.

    Attributes:
        values: Ids int32 `[N]`, each text with its end id.
        lengths: Lengths of the texts, int64 `[P]`, each at least 1.
        starts: Index of the first id of each text, int64 `[P]`.
    """

    values: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", np.cumsum(self.lengths) - self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.starts[index] : self.starts[index] + self.lengths[index]]

    def take(self, texts: np.ndarray) -> np.ndarray:
        """Returns the ids of texts `[n]`, concatenated."""
        return self.values[ranges(self.starts[texts], self.lengths[texts])]


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of ids in memory, about 4 bytes per token; the result of `encode`.

    Attributes:
        numbers: Number of each pair or line in the data set, from 1, integers `[P]`.
        source, target: The sides: `source[i]` contains the ids of a text and the end id.
        cut: Which pairs were truncated, boolean `[P]`.
        report: The `Report` of the pairs read, truncated and dropped.
        special_ids: The `SpecialIds` of both sides.
    """

    numbers: np.ndarray
    source: Ragged
    target: Ragged
    cut: np.ndarray
    report: Report
    special_ids: SpecialIds = dataclasses.field(default_factory=SpecialIds)

    def __len__(self) -> int:
        return len(self.source.lengths)

    @property
    def lengths(self) -> np.ndarray:
        """Lengths of both sides, including end ids, integers `[P, 2]`."""
        return np.stack([self.source.lengths, self.target.lengths], axis=1)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.source[index], self.target[index]


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns `starts[i] ... starts[i] + lengths[i] - 1` for every i, concatenated."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
