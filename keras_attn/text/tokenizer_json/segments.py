"""Segments of texts as code points that know where in the text they come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from keras_attn.text.tokenizer_json.code_points import TOKEN, Replacements


@dataclasses.dataclass(frozen=True)
class Segments:
    """Segments of texts, in the order of the texts.

    Attributes:
        codes: int32 `[C]`: the code points of all segments. An added token is the single code `TOKEN`.
        starts, ends: int32 `[C]`: the range of code points of the text that each comes from.
        splits: int32 `[R + 1]`: where each segment begins, and the end of the last.
        texts: int32 `[R]`: the number of each segment's text.
        ids: int32 `[R]`: the id of an added token, -1 for other segments.
    """

    codes: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    splits: tf.Tensor
    texts: tf.Tensor
    ids: tf.Tensor

    @property
    def rows(self) -> tf.Tensor:
        """The number of each code point's segment, int32 `[C]`."""
        return row_numbers(self.splits, tf.size(self.codes))

    @property
    def is_first(self) -> tf.Tensor:
        """Whether each code point is the first of its segment."""
        begins = tf.scatter_nd(self.splits[:-1, None], tf.ones_like(self.splits[:-1]), [tf.size(self.codes) + 1])
        return begins[:-1] > 0

    @property
    def is_last(self) -> tf.Tensor:
        """Whether each code point is the last of its segment."""
        return tf.concat([self.is_first[1:], tf.ones([tf.minimum(tf.size(self.codes), 1)], tf.bool)], 0)

    def replace(self, **fields: tf.Tensor) -> Segments:
        """Returns segments with other tensors."""
        return dataclasses.replace(self, **fields)

    def keep(self, kept: tf.Tensor) -> Segments:
        """Returns the code points where `kept` `[C]` is True; segments may become empty."""
        codes, starts, ends = (tf.boolean_mask(each, kept) for each in (self.codes, self.starts, self.ends))
        return self.replace(codes=codes, starts=starts, ends=ends, splits=moved(self.splits, tf.cast(kept, tf.int32)))

    def cut(self, first: tf.Tensor) -> Segments:
        """Returns segments that begin where `first` `[C]` is True, and where they began; empty ones are left out."""
        begins = tf.cast(tf.where(tf.logical_or(first, self.is_first))[:, 0], tf.int32)
        rows = tf.gather(self.rows, begins)
        splits = tf.concat([begins, [tf.size(self.codes)]], 0)
        return self.replace(splits=splits, texts=tf.gather(self.texts, rows), ids=tf.gather(self.ids, rows))

    def mapped(self, table: Replacements) -> Segments:
        """Returns segments in which the texts of a table replace the code points."""
        return self.replaced(table, table.lookup(self.codes))

    def replaced(self, table: Replacements, found: tf.Tensor) -> Segments:
        """Returns segments in which texts, by their numbers `found` `[C]` in a table, replace the code points."""
        if not table.changes_lengths:
            return self.replace(codes=found)

        def change(segments: Segments) -> Segments:
            counts = table.counts(found)
            source, place = spread(counts)
            return segments.replace(
                codes=table.at(tf.gather(found, source), place),
                starts=tf.gather(segments.starts, source),
                ends=tf.gather(segments.ends, source),
                splits=moved(segments.splits, counts),
            )

        return self.replace(codes=found).changed(tf.reduce_any(found < 0), change)

    def changed(self, condition: tf.Tensor, change: Callable[[Segments], Segments]) -> Segments:
        """Returns segments with other code points if a condition holds."""

        def fields(segments: Segments) -> tuple[tf.Tensor, ...]:
            return segments.codes, segments.starts, segments.ends, segments.splits

        codes, starts, ends, splits = tf.cond(condition, lambda: fields(change(self)), lambda: fields(self))
        return self.replace(codes=codes, starts=starts, ends=ends, splits=splits)

    def without_empty(self) -> Segments:
        """Returns the segments that are not empty."""
        return self.cut(tf.zeros_like(self.codes, tf.bool))

    def prepend(self, code: int, chosen: tf.Tensor) -> Segments:
        """Returns segments with one more code point in front of those that are `chosen` `[R]` and not empty."""
        sizes = self.splits[1:] - self.splits[:-1]
        chosen = tf.logical_and(tf.logical_and(chosen, self.ids < 0), sizes > 0)
        begins = tf.boolean_mask(self.splits[:-1], chosen)
        counts = 1 + tf.scatter_nd(begins[:, None], tf.ones_like(begins), [tf.size(self.codes)])
        source, places = spread(counts)
        added = places < tf.gather(counts, source) - 1
        return self.replace(
            codes=tf.where(added, code, tf.gather(self.codes, source)),
            starts=tf.gather(self.starts, source),
            ends=tf.gather(self.ends, source),
            splits=moved(self.splits, counts),
        )

    def strings(self) -> tf.Tensor:
        """Returns the segments as strings `[R]`; an added token is empty."""
        plain = self.codes < TOKEN
        codes = tf.boolean_mask(self.codes, plain)
        splits = moved(self.splits, tf.cast(plain, tf.int32))
        ragged = tf.RaggedTensor.from_row_splits(codes, tf.cast(splits, tf.int64), validate=False)
        return tf.strings.unicode_encode(ragged, "UTF-8")


def row_numbers(splits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns the row of each of `size` values, from the row splits `[R + 1]`."""
    ends = splits[1:-1, None]
    return tf.cumsum(tf.scatter_nd(ends, tf.ones_like(splits[1:-1]), [size + 1]))[:-1]


def spread(counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns of each copy that `counts` `[C]` makes the number of its value, and its own among the copies."""
    ends = tf.cumsum(counts)
    source = row_numbers(tf.concat([[0], ends], 0), tf.reduce_sum(counts))
    return source, tf.range(tf.size(source)) - tf.gather(ends - counts, source)


def moved(splits: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Returns the row splits after each value has become as many as `counts` says."""
    return tf.gather(tf.concat([[0], tf.cumsum(counts)], 0), splits)


def from_texts(texts: tf.Tensor) -> Segments:
    """Returns one segment for each string `[B]`, which must be valid UTF-8."""
    ragged = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
    splits = tf.cast(ragged.row_splits, tf.int32)
    codes = ragged.flat_values
    rows = row_numbers(splits, tf.size(codes))
    places = tf.range(tf.size(codes)) - tf.gather(splits, rows)
    numbers = tf.range(tf.size(splits) - 1)
    return Segments(codes, places, places + 1, splits, numbers, tf.fill(tf.shape(numbers), -1))


def collapse(segments: Segments) -> Segments:
    """Returns segments in which each added token is a single code, and no segment is empty."""
    is_token = tf.gather(segments.ids, segments.rows) >= 0
    is_first = segments.is_first
    last = tf.gather(segments.splits[1:], segments.rows) - 1
    changed = segments.replace(
        codes=tf.where(is_token, TOKEN, segments.codes),
        ends=tf.where(is_token, tf.gather(segments.ends, last), segments.ends),
    )
    kept = changed.keep(tf.logical_or(tf.logical_not(is_token), is_first))
    return kept.without_empty()
