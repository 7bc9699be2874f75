"""First-fit packing of pairs into rows with a source and a target side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SMALL = 0.2  # pairs up to this fraction of a row are not sorted


class Places(NamedTuple):
    """Places of pairs in rows, arrays `[P]` in the order of the pairs.

    Attributes:
        row: Number of the row, from 0.
        source_start, target_start: Positions of the pair's first ids in the row.
        segment: Number of the pair in its row, from 1.
    """

    row: np.ndarray
    source_start: np.ndarray
    target_start: np.ndarray
    segment: np.ndarray


def first_fit(lengths: np.ndarray, room: tuple[int, int], window: int) -> Places:
    """Packs each pair into the first row with room for both of its sides.

    Each window of pairs is packed into its own rows: first the pairs that need more than a fifth of
    a row, the longest first; then the others in their order, which fill the gaps. (Sorting these too
    would combine sides of unequal lengths badly.)

    Args:
        lengths: Lengths of source and target, integers `[P, 2]`, none above `room`.
        room: Positions of a row on the source and on the target side.
        window: Number of pairs in a window.

    Returns:
        `Places`.

    Example:
    >>> import numpy as np
    >>> from keras_attn.data.packing import first_fit
    >>> first_fit(np.array([[2, 3], [5, 4], [3, 1]]), (6, 6), window=100).row.tolist()
    [1, 0, 1]
    """
    lengths, sizes = np.asarray(lengths, "int64"), np.asarray(room, "int64")
    row, start, segment = np.zeros(len(lengths), "int64"), np.zeros_like(lengths), np.zeros(len(lengths), "int64")
    num_rows = 0
    for begin in range(0, len(lengths), window):
        part = slice(begin, begin + window)
        row[part], start[part], segment[part], num_opened = pack_window(lengths[part], sizes)
        row[part] += num_rows
        num_rows += num_opened
    return Places(row, start[:, 0], start[:, 1], segment)


def pack_window(lengths: np.ndarray, room: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Returns rows `[n]`, starts `[n, 2]` and segments `[n]` of the pairs of a window, and the number of rows."""
    order = np.argsort(-np.maximum(np.max(lengths / room, axis=1), SMALL), kind="stable")
    left = np.repeat(room[:, None], len(lengths), axis=1)  # [2, n]: no more rows than pairs
    filled = np.zeros(len(lengths), "int64")
    rows, starts, segments = np.zeros(len(lengths), "int64"), np.zeros_like(lengths), np.zeros(len(lengths), "int64")
    smallest = lengths.min(axis=0)
    first = num_rows = 0  # rows before `first` have no room for any pair
    for pair in order:
        source, target = lengths[pair]
        fits = (left[0, first : num_rows + 1] >= source) & (left[1, first : num_rows + 1] >= target)
        row = first + int(fits.argmax())  # the row after the last one is empty
        starts[pair] = room - left[:, row]
        left[:, row] -= lengths[pair]
        filled[row] += 1
        rows[pair], segments[pair] = row, filled[row]
        num_rows = max(num_rows, row + 1)
        while first < num_rows and (left[:, first] < smallest).any():
            first += 1
    return rows, starts, segments, num_rows
