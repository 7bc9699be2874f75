"""Composed normal forms: NFC and NFKC."""

from __future__ import annotations

import functools
import unicodedata

import tensorflow as tf

from keras_attn.text.tokenizer_json import unicode_ranges
from keras_attn.text.tokenizer_json.canonical_order import begins_origin, combining_classes
from keras_attn.text.tokenizer_json.code_points import Members, SparseNumbers, code_points
from keras_attn.text.tokenizer_json.segments import Segments

HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
BITS = 21  # of a code point


@functools.lru_cache(None)
def compositions() -> dict[tuple[int, int], int]:
    """Returns the code point of each pair that composes."""
    found = {}
    for code in (*code_points(unicode_ranges.DECOMPOSED), *HANGUL_SYLLABLES):
        parts = unicodedata.normalize("NFD", chr(code))
        if len(parts) > 1 and unicodedata.normalize("NFC", chr(code)) == chr(code):
            first = unicodedata.normalize("NFC", parts[:-1])
            if len(first) == 1:
                found[ord(first), ord(parts[-1])] = code
    return found


class Composer:
    """Composes code points that are decomposed and in canonical order."""

    def __init__(self) -> None:
        pairs = compositions()
        self._table = SparseNumbers({(first << BITS) + second: code for (first, second), code in pairs.items()})
        self.seconds = frozenset(second for _, second in pairs)
        self._is_second = Members(self.seconds)

    def compose(self, segments: Segments) -> Segments:
        """Returns segments in which each starter has taken the followers that it composes with.

        Those left follow each other in the text behind all that the starter has taken, as `tokenizers` has it.
        """
        classes = combining_classes().lookup(segments.codes)
        follows = tf.logical_or(classes > 0, self._is_second.lookup(segments.codes))
        heads = tf.cast(tf.where(tf.logical_or(tf.logical_not(follows), segments.is_first))[:, 0], tf.int32)
        sizes = tf.concat([heads[1:], [tf.size(follows)]], 0) - heads
        groups = tf.boolean_mask(heads, sizes > 1), tf.boolean_mask(sizes, sizes > 1)
        begins = begins_origin(segments)
        used = tf.cast(begins, tf.int32)  # how many code points of the text each stands for
        _, _, _, codes, kept, used = tf.while_loop(
            lambda place, *_: place < tf.reduce_max(tf.concat([groups[1], [1]], 0)),
            lambda place, *state: (place + 1, *self._step(place, groups, classes, *state)),
            (tf.constant(1), groups[0], tf.zeros_like(groups[0]), segments.codes, tf.ones_like(follows), used),
        )
        origin = tf.maximum(tf.cumsum(used, exclusive=True) - tf.cast(tf.equal(used, 0), tf.int32), 0)
        starts, ends = (tf.gather(tf.boolean_mask(each, begins), origin) for each in (segments.starts, segments.ends))
        return segments.replace(codes=codes, starts=starts, ends=ends).keep(kept)

    def _step(
        self,
        place: tf.Tensor,
        groups: tuple[tf.Tensor, tf.Tensor],
        classes: tf.Tensor,
        heads: tf.Tensor,
        last: tf.Tensor,
        codes: tf.Tensor,
        kept: tf.Tensor,
        used: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Takes one more follower of each group; `heads` are the current starters, `last` the class kept last."""
        active = place < groups[1]
        at = tf.where(active, groups[0] + place, groups[0])
        found_class, head = tf.gather(classes, at), tf.gather(codes, heads)
        pair = tf.bitwise.left_shift(tf.cast(head, tf.int64), BITS) + tf.cast(tf.gather(codes, at), tf.int64)
        composed = self._table.lookup(pair)
        free = tf.logical_or(tf.equal(last, 0), last < found_class)
        takes = tf.logical_and(active, tf.logical_and(free, composed >= 0))
        codes = tf.tensor_scatter_nd_update(codes, heads[:, None], tf.where(takes, composed, head))
        gone, takers = tf.boolean_mask(at, takes), tf.boolean_mask(heads, takes)
        kept = tf.tensor_scatter_nd_update(kept, gone[:, None], tf.zeros_like(gone, tf.bool))
        moved = tf.gather(used, gone)
        used = tf.tensor_scatter_nd_add(used, takers[:, None], moved)
        used = tf.tensor_scatter_nd_sub(used, gone[:, None], moved)
        stays = tf.logical_and(active, tf.logical_not(takes))
        starts = tf.logical_and(stays, tf.equal(found_class, 0))
        return tf.where(starts, at, heads), tf.where(stays, found_class, last), codes, kept, used
