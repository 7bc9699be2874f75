"""The model WordPiece: the longest pieces of a word, from left to right."""

from __future__ import annotations

import tensorflow as tf

from keras_attn.text.optional import text_module
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, read, refuse
from keras_attn.text.tokenizer_json.pieces import Pieces, in_code_points
from keras_attn.text.tokenizer_json.segments import Segments


class WordPiece(tf.Module):
    """The pieces of words.

    Args:
        section: The section `model` of a tokenizer.json.
    """

    def __init__(self, section: Section) -> None:
        super().__init__()
        fields = read(
            section,
            "model",
            vocab=REQUIRED,
            unk_token="[UNK]",
            continuing_subword_prefix="##",
            max_input_chars_per_word=100,
        )
        self.vocabulary: dict[str, int] = fields["vocab"]
        if fields["unk_token"] not in self.vocabulary:
            refuse("model.unk_token", fields["unk_token"], "be in the vocabulary")
        self.unknown: int | None = self.vocabulary[fields["unk_token"]]
        self._max_size: int = fields["max_input_chars_per_word"]
        self._prefix: str = fields["continuing_subword_prefix"]
        tokens, ids = list(self.vocabulary), list(self.vocabulary.values())
        pairs = tf.lookup.KeyValueTensorInitializer(tokens, ids, tf.string, tf.int64)
        self._table = tf.lookup.StaticHashTable(pairs, -1)
        known = set("".join(tokens))
        self._no_piece = next(chr(code) for code in range(0xE000, 0x110000) if chr(code) not in known)
        self._max_bytes = 4 * max(self._max_size, 1)

    def prepare(self, words: Segments) -> Segments:
        """Returns the words as they are."""
        return words

    def pieces(self, words: Segments, offsets: bool) -> Pieces:
        """Returns the pieces of each word; a word with an unknown part, or one too long, is the unknown token."""
        sizes = words.splits[1:] - words.splits[:-1]
        strings = words.strings()
        split = text_module("tensorflow_text").WordpieceTokenizer(
            self._table, self._prefix, self._max_bytes, token_out_type=tf.int64, unknown_token=None
        )
        ids, starts, ends = split.tokenize_with_offsets(tf.where(sizes > self._max_size, self._no_piece, strings))
        is_known = ids.flat_values >= 0
        known = tf.where(is_known, tf.cast(ids.flat_values, tf.int32), self.unknown)
        splits = tf.cast(ids.row_splits, tf.int32)
        if not offsets:
            return Pieces(known, splits)
        whole = tf.gather(tf.strings.length(strings), ids.value_rowids())
        ends = tf.where(is_known, tf.cast(ends.flat_values, tf.int32), whole)
        return in_code_points(words, Pieces(known, splits, tf.cast(starts.flat_values, tf.int32), ends))
