"""Texts written into the rows of one batch."""

from typing import NamedTuple

import numpy as np

from keras_attn.base.special_ids import PADDING_ID, START_ID
from keras_attn.data.pairs import ranges


class Place(NamedTuple):
    """Where one side of `n` texts stands in a batch: the row, the first position and the segment id, `[n]` each."""

    row: np.ndarray
    start: np.ndarray
    segment: np.ndarray


class Side(NamedTuple):
    """One side of a batch, int32 `[B, L]` each, zero at padding.

    Attributes:
        ids: The texts.
        read_before: What a decoder has read before each of the ids: the start id, then the ids before it.
        segment_ids: Numbers of the texts in their row, from 1.
        positions: Positions within each text, from 0.
    """

    ids: np.ndarray
    read_before: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray


def lay_out(ragged, texts, place, shape):
    """Writes texts at their places.

    Args:
        ragged: The `Ragged` that holds them.
        texts: Which of its texts, integers `[n]`.
        place: Their `Place`.
        shape: The batch's rows B and positions L.

    Returns:
        The `Side`.
    """
    lengths = ragged.lengths[texts]
    where = ranges(place.row * shape[1] + place.start, lengths)
    ids = ragged.take(texts)
    read = np.roll(ids, 1)
    read[np.cumsum(lengths) - lengths] = START_ID
    return Side(
        written(ids, where, shape),
        written(read, where, shape),
        written(np.repeat(place.segment, lengths), where, shape),
        written(ranges(np.zeros_like(lengths), lengths), where, shape),
    )


def written(values, where, shape):
    """Returns an int32 array of a shape with values at flat indices, and padding elsewhere."""
    array = np.full(shape, PADDING_ID, "int32")
    array.reshape(-1)[where] = values
    return array
