"""Texts written into the rows of one batch."""

from typing import NamedTuple

import numpy as np

from keras_attn.data.pairs import ranges


class Place(NamedTuple):
    """Where one side of `n` texts stands in a batch: the row, the first position and the segment id, `[n]` each."""

    row: np.ndarray
    start: np.ndarray
    segment: np.ndarray


class Side(NamedTuple):
    """One side of a batch, int32 `[B, L]` each, the numbers zero at padding.

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


def lay_out(ragged, texts, place, shape, special_ids):
    """Writes texts at their places.

    Args:
        ragged: The `Ragged` that holds them.
        texts: Which of its texts, integers `[n]`.
        place: Their `Place`.
        shape: The batch's rows B and positions L.
        special_ids: Those of the texts.

    Returns:
        The `Side`.
    """
    lengths = ragged.lengths[texts]
    where = ranges(place.row * shape[1] + place.start, lengths)
    ids = ragged.take(texts)
    read = np.roll(ids, 1)
    read[np.cumsum(lengths) - lengths] = special_ids.start
    return Side(
        written(ids, where, shape, special_ids.padding),
        written(read, where, shape, special_ids.padding),
        written(np.repeat(place.segment, lengths), where, shape),
        written(ranges(np.zeros_like(lengths), lengths), where, shape),
    )


def written(values, where, shape, filler=0):
    """Returns an int32 array of a shape with values at flat indices, and `filler` elsewhere."""
    array = np.full(shape, filler, "int32")
    array.reshape(-1)[where] = values
    return array
