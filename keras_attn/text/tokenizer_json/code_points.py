"""Tables over all code points for TensorFlow graphs: numbers, and texts that replace a code point."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

TOKEN = 0x110000
"""Stands for an added token among code points; no table changes it."""

BLOCK = 128


@functools.lru_cache(None)
def code_points(ranges: str) -> frozenset[int]:
    """Returns a set of `unicode_ranges`."""
    found: list[int] = []
    end = 0
    for part in ranges.split():
        gap, _, more = part.partition("+")
        start = end + int(gap, 16)
        end = start + int(more or "0", 16) + 1
        found.extend(range(start, end))
    return frozenset(found)


class Numbers:
    """A number for each code point.

    Equal blocks of 128 code points are stored once.

    Args:
        values: Numbers by code point.
        default: The number of all others, or None for the code points themselves.
    """

    def __init__(self, values: Mapping[int, int], default: int | None = 0) -> None:
        size = TOKEN + BLOCK
        table = np.arange(size, dtype="int32") if default is None else np.full(size, default, "int32")
        table[np.fromiter(values.keys(), "int64")] = np.fromiter(values.values(), "int32")
        if default is None:  # as differences, so that blocks without changes are equal
            table -= np.arange(size, dtype="int32")
        self._relative = default is None
        places: dict[bytes, int] = {}
        rows = [block.tobytes() for block in table.reshape(-1, BLOCK)]
        self._block_of = np.array([places.setdefault(row, len(places)) for row in rows], "int32")
        self._values = np.frombuffer(b"".join(places), "int32")

    def lookup(self, codes: tf.Tensor) -> tf.Tensor:
        """Returns the numbers of code points `[C]`."""
        block = tf.gather(tf.constant(self._block_of), codes // BLOCK)
        found = tf.gather(tf.constant(self._values), block * BLOCK + codes % BLOCK)
        return codes + found if self._relative else found


class Members(Numbers):
    """Whether code points are in a set."""

    def __init__(self, members: Iterable[int]) -> None:
        super().__init__(dict.fromkeys(members, 1))

    def lookup(self, codes: tf.Tensor) -> tf.Tensor:
        return super().lookup(codes) > 0


class SparseNumbers:
    """A number for each of some keys, -1 for others.

    Args:
        values: Numbers of at least 0 by their keys, int64.
    """

    def __init__(self, values: Mapping[int, int]) -> None:
        self._keys = np.array(sorted(values), "int64")
        self._values = np.array([values[key] for key in sorted(values)], "int32")

    def lookup(self, keys: tf.Tensor) -> tf.Tensor:
        """Returns the numbers of int64 keys `[C]`."""
        place = tf.minimum(tf.searchsorted(tf.constant(self._keys), keys), len(self._keys) - 1)
        found = tf.equal(tf.gather(tf.constant(self._keys), place), keys)
        return tf.where(found, tf.gather(tf.constant(self._values), place), -1)


class Replacements:
    """A text for each code point: none, one or several code points; itself by default.

    Args:
        texts: Texts by code point.
        others: More texts that may stand in the place of a code point.
    """

    def __init__(self, texts: Mapping[int, str], others: Iterable[str] = ()) -> None:
        entries = [text for text in dict.fromkeys((*texts.values(), *others)) if len(text) != 1]
        self._places = {text: place for place, text in enumerate(entries)}
        self._table = Numbers({code: self.number(text) for code, text in texts.items()}, default=None)
        self._lengths = np.array([len(text) for text in entries] or [0], "int32")
        self._starts = np.cumsum([0, *self._lengths])[:-1].astype("int32")
        self._codes = np.array([ord(c) for text in entries for c in text] or [0], "int32")
        self.changes_lengths = bool(entries)

    def number(self, text: str) -> int:
        """Returns the number of a text: its code point if it is one, or a negative number."""
        return ord(text) if len(text) == 1 else -1 - self._places[text]

    def lookup(self, codes: tf.Tensor) -> tf.Tensor:
        """Returns the numbers of the texts of code points `[C]`."""
        return self._table.lookup(codes)

    def counts(self, numbers: tf.Tensor) -> tf.Tensor:
        """Returns the lengths of texts by their numbers."""
        return tf.where(numbers < 0, tf.gather(tf.constant(self._lengths), tf.maximum(-1 - numbers, 0)), 1)

    def at(self, numbers: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Returns the code points at `places` of texts by their numbers."""
        first = tf.gather(tf.constant(self._starts), tf.maximum(-1 - numbers, 0))
        several = tf.gather(tf.constant(self._codes), tf.minimum(first + places, len(self._codes) - 1))
        return tf.where(numbers < 0, several, numbers)
