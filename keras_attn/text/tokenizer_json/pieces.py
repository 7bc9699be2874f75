"""The ids of pieces, and the ranges of the text that they stand for."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import tensorflow as tf

from keras_attn.text.tokenizer_json.byte_level import utf8_sizes
from keras_attn.text.tokenizer_json.code_points import TOKEN
from keras_attn.text.tokenizer_json.segments import Segments, row_numbers, spread


@dataclasses.dataclass(frozen=True)
class Pieces:
    """The pieces of words.

    Attributes:
        ids: int32 `[P]`, the pieces of all words.
        splits: int32 `[W + 1]`: where the pieces of each word begin.
        starts, ends: int32 `[P]`: ranges of code points in the word; None if they were not requested.
    """

    ids: tf.Tensor
    splits: tf.Tensor
    starts: tf.Tensor | None = None
    ends: tf.Tensor | None = None


class Model(Protocol):
    """A model of a tokenizer.json.

    Attributes:
        vocabulary: The ids by their tokens.
        unknown: The id of unknown pieces, or None.
    """

    vocabulary: dict[str, int]
    unknown: int | None

    def prepare(self, words: Segments) -> Segments:
        """Returns words as the model reads them; those that are a token as a whole have its id."""

    def pieces(self, words: Segments, offsets: bool) -> Pieces:
        """Returns the pieces of words; those of words with an id do not count."""


def ids_of_texts(words: Segments, pieces: Pieces, num_texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns the ids of each text, those of added tokens among them: a ragged `[B, None]`."""
    source, place, is_token = places(words, pieces)
    ids = tf.where(is_token, tf.gather(words.ids, source), tf.gather(padded(pieces.ids), place))
    return rows_of_texts(words, ids, source, num_texts)


def offsets_of_texts(words: Segments, pieces: Pieces, num_texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Returns where each id starts and ends in its text, in code points: ragged `[B, None]`."""
    source, place, is_token = places(words, pieces)
    begin, end = tf.gather(words.splits, source), tf.gather(words.splits, source + 1)
    first = tf.where(is_token, begin, begin + tf.gather(padded(pieces.starts), place))
    last = tf.where(is_token, end, begin + tf.gather(padded(pieces.ends), place)) - 1
    starts, ends = tf.gather(words.starts, first), tf.gather(words.ends, last)
    return rows_of_texts(words, starts, source, num_texts), rows_of_texts(words, ends, source, num_texts)


def in_code_points(words: Segments, pieces: Pieces) -> Pieces:
    """Returns pieces whose ranges count code points of the word, from pieces whose ranges count bytes.

    A piece of some of the bytes of a code point has the whole one.
    """
    sizes = tf.where(words.codes < TOKEN, utf8_sizes(words.codes), 0)
    before = tf.concat([[0], tf.cumsum(sizes)], 0)
    word = tf.gather(words.splits, row_numbers(pieces.splits, tf.size(pieces.ids)))
    byte = tf.gather(before, word)
    starts = tf.searchsorted(before, byte + pieces.starts, side="right") - 1 - word
    ends = tf.searchsorted(before, byte + pieces.ends, side="left") - word
    return dataclasses.replace(pieces, starts=starts, ends=ends)


def places(words: Segments, pieces: Pieces) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns of each id its word, its number among all pieces, and whether it is an added token."""
    counts = tf.where(words.ids >= 0, 1, pieces.splits[1:] - pieces.splits[:-1])
    source, number = spread(counts)
    return source, tf.gather(pieces.splits, source) + number, tf.gather(words.ids, source) >= 0


def rows_of_texts(words: Segments, values: tf.Tensor, source: tf.Tensor, num_texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns values by text; `source` is the word of each."""
    rows = tf.cast(tf.gather(words.texts, source), tf.int64)
    return tf.RaggedTensor.from_value_rowids(values, rows, tf.cast(num_texts, tf.int64), validate=False)


def padded(values: tf.Tensor) -> tf.Tensor:
    """Returns values with a 0 behind them, where an added token without pieces looks."""
    return tf.concat([values, [0]], 0)
