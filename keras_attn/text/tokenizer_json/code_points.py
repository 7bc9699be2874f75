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
        blocks, self._block_of = np.unique(table.reshape(-1, BLOCK), axis=0, return_inverse=True)
        self._block_of = self._block_of.reshape(-1).astype("int32")
        self._values = blocks.reshape(-1)

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
    """A text for each code point: none, one or several code points; itself by default."""

    def __init__(self, texts: Mapping[int, str]) -> None:
        others = {code: text for code, text in texts.items() if len(text) != 1}
        entries = {text: index for index, text in enumerate(dict.fromkeys(others.values()))}
        single = {code: ord(text) for code, text in texts.items() if len(text) == 1}
        self._table = Numbers(single | {code: -1 - entries[text] for code, text in others.items()}, default=None)
        self._lengths = np.array([len(text) for text in entries] or [0], "int32")
        self._starts = np.cumsum([0, *self._lengths])[:-1].astype("int32")
        self._codes = np.array([ord(c) for text in entries for c in text] or [0], "int32")
        self.changes_lengths = bool(others)

    def lookup(self, codes: tf.Tensor) -> tf.Tensor:
        """Returns one code point for each of `[C]`, or a negative number where its text has another length."""
        return self._table.lookup(codes)

    def counts(self, found: tf.Tensor) -> tf.Tensor:
        """Returns how many code points replace each, from what `lookup` returned."""
        return tf.where(found < 0, tf.gather(tf.constant(self._lengths), tf.maximum(-1 - found, 0)), 1)

    def at(self, found: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Returns the code points at `places` of the texts, from what `lookup` returned."""
        first = tf.gather(tf.constant(self._starts), tf.maximum(-1 - found, 0))
        last = len(self._codes) - 1
        several = tf.gather(tf.constant(self._codes), tf.minimum(first + places, last))
        return tf.where(found < 0, several, found)
