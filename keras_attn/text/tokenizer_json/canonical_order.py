"""The canonical order of combining marks."""

from __future__ import annotations

import functools
import unicodedata

import tensorflow as tf

from keras_attn.text.tokenizer_json import unicode_ranges
from keras_attn.text.tokenizer_json.code_points import Numbers, code_points
from keras_attn.text.tokenizer_json.segments import Segments


@functools.lru_cache(None)
def combining_classes() -> Numbers:
    """Returns the combining class of each code point."""
    return Numbers({code: unicodedata.combining(chr(code)) for code in code_points(unicode_ranges.REORDERED)})


def reorder(segments: Segments) -> Segments:
    """Returns segments whose runs of combining marks are sorted by their classes, equal ones in their order.

    The marks move, their origins stay: the n-th mark comes from the n-th code point of the text.
    """
    classes = combining_classes().lookup(segments.codes)
    follows = tf.logical_not(segments.is_first)
    wrong = tf.reduce_any(tf.logical_and(follows[1:], tf.logical_and(classes[1:] > 0, classes[1:] < classes[:-1])))

    def sort() -> tuple[tf.Tensor, ...]:
        runs = tf.cumsum(tf.cast(tf.logical_or(tf.equal(classes, 0), segments.is_first), tf.int64))
        order = tf.argsort(runs * 256 + tf.cast(classes, tf.int64), stable=True)
        begins = begins_origin(segments)
        origin = tf.cumsum(tf.cast(tf.gather(begins, order), tf.int32)) - 1
        starts, ends = (tf.gather(tf.boolean_mask(each, begins), origin) for each in (segments.starts, segments.ends))
        return tf.gather(segments.codes, order), starts, ends

    codes, starts, ends = tf.cond(wrong, sort, lambda: (segments.codes, segments.starts, segments.ends))
    return segments.replace(codes=codes, starts=starts, ends=ends)


def begins_origin(segments: Segments) -> tf.Tensor:
    """Returns whether each code point is the first of those that come from the same one of the text."""
    same = tf.logical_and(
        tf.equal(segments.starts, tf.roll(segments.starts, 1, 0)), tf.equal(segments.ends, tf.roll(segments.ends, 1, 0))
    )
    return tf.logical_or(segments.is_first, tf.logical_not(same))
