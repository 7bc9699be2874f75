"""The normalization rules of a SentencePiece model, as the `tokenizers` package applies them.

That is not as SentencePiece does: a grapheme cluster of less than six bytes is replaced as a whole by the rule of
its shortest beginning that has one. All other code points are replaced one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from keras_attn.text.tokenizer_json import unicode_ranges
from keras_attn.text.tokenizer_json.byte_level import utf8_sizes
from keras_attn.text.tokenizer_json.code_points import Members, Replacements, SparseNumbers, code_points
from keras_attn.text.tokenizer_json.segments import Segments, spread

MOST_BYTES = 5  # of a cluster that is replaced as a whole


class Charsmap:
    """Applies rules.

    Args:
        rules: Texts by what they replace.
    """

    def __init__(self, rules: Mapping[str, str]) -> None:
        single = {ord(key): text for key, text in rules.items() if len(key) == 1}
        several = {key: text for key, text in rules.items() if len(key) > 1 and len(key.encode()) <= MOST_BYTES}
        self._table = Replacements(single, ["", *several.values()])
        self._has_rule = Members(single)
        self._clusters = {
            size: SparseNumbers({packed(key): place for place, key in enumerate(several) if len(key) == size})
            for size in sorted({len(key) for key in several})
        }
        self._numbers = np.array([self._table.number(text) for text in several.values()] or [0], "int32")
        self._extends, self._prepends, self._controls = (
            Members(code_points(each))
            for each in (unicode_ranges.EXTENDING, unicode_ranges.PREPENDED, unicode_ranges.CONTROLS)
        )

    def apply(self, segments: Segments) -> Segments:
        """Returns normalized segments."""
        joined = self._joined(segments)
        found = self._table.lookup(segments.codes)
        sizes = tf.ones_like(found)
        found, sizes = tf.cond(
            tf.reduce_any(joined),
            lambda: self._with_clusters(segments.codes, found, joined),
            lambda: (found, sizes),
        )
        return segments.replace(codes=found).changed(
            tf.reduce_any(found < 0), lambda each: self._replaced(segments, found, sizes)
        )

    def _joined(self, segments: Segments) -> tf.Tensor:
        """Returns whether each code point is in the grapheme cluster of the one before."""
        codes = segments.codes
        control, before = self._controls.lookup(codes), tf.roll(codes, 1, 0)
        joined = tf.logical_or(self._extends.lookup(codes), tf.roll(self._prepends.lookup(codes), 1, 0))
        joined = tf.logical_and(joined, tf.logical_not(tf.logical_or(control, tf.roll(control, 1, 0))))
        line_end = tf.logical_and(tf.equal(before, ord("\r")), tf.equal(codes, ord("\n")))
        return tf.logical_and(tf.logical_or(joined, line_end), tf.logical_not(segments.is_first))

    def _with_clusters(self, codes: tf.Tensor, found: tf.Tensor, joined: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the numbers of texts and how many code points each replaces.

        The text of a small cluster stands at its first code point; the others have none and replace none.
        """
        cluster = tf.cumsum(tf.cast(tf.logical_not(joined), tf.int32)) - 1
        sizes = utf8_sizes(codes)
        small = tf.math.unsorted_segment_sum(sizes, cluster, tf.size(codes)) <= MOST_BYTES
        whole = tf.where(tf.logical_and(self._has_rule.lookup(codes), tf.logical_not(joined)), found, NO_RULE)
        key = packed_codes(codes)
        longer = key
        for size in range(2, max(self._clusters, default=1) + 1):
            behind = tf.concat([cluster[size - 1 :], tf.fill([tf.minimum(size - 1, tf.size(codes))], -1)], 0)
            shift = tf.cast(8 * tf.roll(sizes, 1 - size, 0), tf.int64)
            longer = tf.bitwise.left_shift(longer, shift) + tf.roll(key, 1 - size, 0)
            if size not in self._clusters:
                continue
            place = tf.where(tf.equal(behind, cluster), self._clusters[size].lookup(longer), -1)
            number = tf.gather(tf.constant(self._numbers), tf.maximum(place, 0))
            new = tf.logical_and(tf.equal(whole, NO_RULE), tf.logical_and(place >= 0, tf.logical_not(joined)))
            whole = tf.where(new, number, whole)
        first = tf.math.unsorted_segment_max(whole, cluster, tf.size(codes))  # of each cluster: only its first counts
        applies = tf.gather(tf.logical_and(small, first > NO_RULE), cluster)
        found = tf.where(applies, tf.where(joined, self._table.number(""), tf.gather(first, cluster)), found)
        all_sizes = tf.math.unsorted_segment_sum(tf.ones_like(codes), cluster, tf.size(codes))
        return found, tf.where(applies, tf.where(joined, 0, tf.gather(all_sizes, cluster)), 1)

    def _replaced(self, segments: Segments, found: tf.Tensor, sizes: tf.Tensor) -> Segments:
        """Returns segments with texts by their numbers `[C]`, each in the place of `sizes` `[C]` code points.

        The origins are those that `tokenizers` computes. It goes through the text and the new one together: a
        code point added takes none of the text, and the last one before others are left out takes these as well.
        If there is none, what follows comes from code points too far to the left.
        """
        replaced = segments.replaced(self._table, found)
        counts = self._table.counts(found)
        source, place = spread(counts)
        more = counts - sizes
        changes = tf.cast(place >= tf.gather(counts - tf.maximum(more, 0), source), tf.int32)
        last = tf.cumsum(counts) - 1
        fewer = tf.logical_and(more < 0, last >= tf.gather(replaced.splits, segments.rows))
        at, less = tf.boolean_mask(last, fewer), tf.boolean_mask(more, fewer)
        changes = tf.tensor_scatter_nd_add(changes, at[:, None], less)
        taken = tf.maximum(1 - changes, 0)
        before = tf.concat([[0], tf.cumsum(taken)], 0)
        rows = replaced.rows
        begin = tf.gather(segments.splits, rows) - tf.gather(before, tf.gather(replaced.splits, rows))
        origin = tf.maximum(begin + before[:-1] - tf.cast(changes > 0, tf.int32), 0)
        return replaced.replace(starts=tf.gather(segments.starts, origin), ends=tf.gather(segments.ends, origin))


NO_RULE = -(2**31) + 1


def packed(text: str) -> int:
    """Returns the UTF-8 bytes of a text as one number."""
    return int.from_bytes(text.encode(), "big")


def packed_codes(codes: tf.Tensor) -> tf.Tensor:
    """Returns the UTF-8 bytes of each code point as one number, int64."""
    wide = tf.cast(codes, tf.int64)
    low, middle, high, top = (tf.bitwise.right_shift(wide, tf.constant(6 * n, tf.int64)) & 0x3F for n in range(4))
    two = (middle + 0xC0) * 256 + low + 0x80
    three = (high + 0xE0) * 65536 + (middle + 0x80) * 256 + low + 0x80
    four = (top + 0xF0) * 16777216 + (high + 0x80) * 65536 + (middle + 0x80) * 256 + low + 0x80
    return tf.where(codes < 0x80, wide, tf.where(codes < 0x800, two, tf.where(codes < 0x10000, three, four)))


def rules(charsmap: bytes) -> dict[str, str]:
    """Returns the rules of a precompiled map: a trie of 32 bits a unit, behind its size, then the texts.

    A unit has the byte that leads to it, whether a rule ends there, and where its children are.
    """
    size = struct.unpack_from("<I", charsmap)[0]
    units = np.frombuffer(charsmap, "<u4", size // 4, 4).astype("int64")
    texts = charsmap[4 + size :]
    bytes_of, places = units & 0x800000FF, np.arange(len(units))
    children = np.flatnonzero((bytes_of > 0) & (bytes_of < 256))
    parents = (places ^ bytes_of)[children]
    children, parents = children[np.argsort(parents, kind="stable")], np.sort(parents)
    nodes, keys, found = offsets_of(units[:1]), [b""], {}
    while len(nodes):
        first, last = np.searchsorted(parents, nodes), np.searchsorted(parents, nodes + 1)
        row = np.repeat(np.arange(len(nodes)), last - first)
        at = children[np.concatenate([np.arange(*pair) for pair in zip(first, last, strict=True)])]
        keys = [keys[index] + bytes([byte]) for index, byte in zip(row, bytes_of[at], strict=True)]
        nodes = at ^ offsets_of(units[at])
        for index in np.flatnonzero(units[at] & 0x100):
            start = int(units[nodes[index]] & 0x7FFFFFFF)
            found[keys[index].decode()] = texts[start : texts.index(b"\0", start)].decode()
    return found


def offsets_of(units: np.ndarray) -> np.ndarray:
    """Returns the distances to the children of units."""
    return (units >> 10) << ((units & 0x200) >> 6)
