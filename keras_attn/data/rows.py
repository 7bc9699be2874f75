"""Writes texts into the rows of one batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_attn.base.special_ids import SpecialIds
from keras_attn.data.pairs import Ragged, ranges


class Place(NamedTuple):
    """Places of one side of `n` texts in a batch: the row, the first position and the segment id, `[n]` each."""

    row: np.ndarray
    start: np.ndarray
    segment: np.ndarray


class BatchSide(NamedTuple):
    """One side of a batch, int32 `[B, L]` each.

    Attributes:
        ids: The texts, then padding.
        read_before: The input of a decoder: each text shifted right by one, after the start id.
        segment_ids: Number of each id's text in its row, from 1; 0 at padding.
        positions: Position of each id in its text, from 0; 0 at padding.
    """

    ids: np.ndarray
    read_before: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray


def lay_out(
    ragged: Ragged, texts: np.ndarray, place: Place, shape: tuple[int, int], special_ids: SpecialIds
) -> BatchSide:
    """Writes texts to their places.

    Args:
        ragged: The `Ragged` with the texts.
        texts: Indices of the texts, integers `[n]`.
        place: The `Place` of each text.
        shape: Number of rows B and of positions L.
        special_ids: The `SpecialIds` of the texts.

    Returns:
        The `BatchSide`.
    """
    lengths = ragged.lengths[texts]
    where = ranges(place.row * shape[1] + place.start, lengths)
    ids = ragged.take(texts)
    read = np.roll(ids, 1)
    read[np.cumsum(lengths) - lengths] = special_ids.start
    return BatchSide(
        written(ids, where, shape, special_ids.filler),
        written(read, where, shape, special_ids.filler),
        written(np.repeat(place.segment, lengths), where, shape),
        written(ranges(np.zeros_like(lengths), lengths), where, shape),
    )


def written(values: np.ndarray, where: np.ndarray, shape: tuple[int, int], filler: int = 0) -> np.ndarray:
    """Returns an int32 array of a shape with values at flat indices, and `filler` elsewhere."""
    array = np.full(shape, filler, "int32")
    array.reshape(-1)[where] = values
    return array
