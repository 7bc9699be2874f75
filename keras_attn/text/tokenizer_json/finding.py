"""Where plain strings and patterns occur in segments."""

from __future__ import annotations

import tensorflow as tf

from keras_attn.text.tokenizer_json.segments import Segments, row_numbers

SEPARATOR = b"\xff"  # never a byte of UTF-8


def parts_of(segments: Segments, pattern: str, strings: tf.Tensor | None = None) -> tuple[tf.Tensor, ...]:
    r"""Splits segments at the matches of a regular expression, which must not match nothing.

    Args:
        segments: The segments.
        pattern: The regular expression of RE2.
        strings: The strings of the segments `[R]`, if they are at hand.

    Returns:
        Of each part its string, its segment, its number of code points, and whether it matches, `[P]`. Plain parts
        and matches take turns, plain ones first and last; plain parts may be empty. An added token is one plain part.
    """
    strings = segments.strings() if strings is None else strings
    marked = tf.strings.regex_replace(strings, pattern, SEPARATOR + rb"\0" + SEPARATOR)
    ragged = tf.strings.split(marked, SEPARATOR)
    parts, rows = ragged.flat_values, tf.cast(ragged.value_rowids(), tf.int32)
    splits = tf.cast(ragged.row_splits, tf.int32)
    matches = (tf.range(tf.size(parts)) - tf.gather(splits, rows)) % 2 > 0
    sizes = tf.where(tf.gather(segments.ids, rows) >= 0, 1, tf.strings.length(parts, "UTF8_CHAR"))
    return parts, rows, sizes, matches


def occurrences(segments: Segments, pattern: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where a part of `parts_of` begins, and where a match is, both `[C]`."""
    _, _, sizes, matches = parts_of(segments, pattern)
    splits = tf.concat([[0], tf.cumsum(sizes)], 0)
    size = tf.size(segments.codes)
    begins = tf.scatter_nd(splits[:-1, None], tf.ones_like(sizes), [size + 1])[:-1] > 0
    return begins, tf.gather(matches, row_numbers(splits, size))


def escaped(text: str) -> str:
    """Returns a regular expression for a text."""
    return "".join(f"\\{each}" if each.isascii() and not each.isalnum() else each for each in text)
