"""The model BPE, on characters or on the characters that stand for bytes."""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf

from keras_attn.text.tokenizer_json.added_tokens import table
from keras_attn.text.tokenizer_json.byte_level import as_bytes
from keras_attn.text.tokenizer_json.byte_tokens import byte_ids, unused_characters
from keras_attn.text.tokenizer_json.code_points import TOKEN, Members
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, read, refuse
from keras_attn.text.tokenizer_json.pair_merging import made_tokens, merge_ranks
from keras_attn.text.tokenizer_json.pieces import Pieces
from keras_attn.text.tokenizer_json.segments import Segments
from keras_attn.text.tokenizer_json.sentence_pieces import SentencePieces


class BytePairs(tf.Module):
    """The pieces of words.

    A character that the vocabulary has not becomes the tokens of its bytes (`byte_fallback`), or the unknown token,
    once for neighbours (`fuse_unk`), or nothing if there is no unknown token. Bytes, and unknown characters that
    stay apart, are written as characters that no token has.

    Args:
        section: The section `model` of a tokenizer.json.
    """

    def __init__(self, section: Section) -> None:
        super().__init__()
        fields = read(
            section, "model", vocab=REQUIRED, merges=REQUIRED, dropout=None, unk_token=None,
            continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False, byte_fallback=False,
            ignore_merges=False,
        )  # fmt: skip
        for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
            if fields[name]:
                refuse(f"model.{name}", fields[name], "be null")
        self.vocabulary: dict[str, int] = fields["vocab"]
        token = fields["unk_token"]
        if token is not None and token not in self.vocabulary:
            refuse("model.unk_token", token, "be in the vocabulary")
        self.unknown: int | None = None if token is None else self.vocabulary[token]
        made = made_tokens(self.vocabulary, merge_ranks(fields["merges"]))
        self._bytes = byte_ids(self.vocabulary) if fields["byte_fallback"] else None
        self._fused = bool(fields["fuse_unk"])
        self._fill(made)
        whole = {token: number for token, number in self.vocabulary.items() if len(token) > 1 and token not in made}
        whole = whole if fields["ignore_merges"] else {}
        self._whole = table(whole, list(whole.values()), -1) if whole else None

    def prepare(self, words: Segments) -> Segments:
        """Returns words of known characters, with the ids of those that `ignore_merges` finds, and no merges make."""
        if self._whole is not None:
            words = words.replace(ids=tf.where(words.ids < 0, self._whole.lookup(words.strings()), words.ids))
        unknown = tf.logical_and(tf.logical_not(self._known.lookup(words.codes)), words.codes < TOKEN)
        if self._bytes is not None:
            return words.changed(tf.reduce_any(unknown), lambda each: as_bytes(each, self._stand_ins, unknown))
        if self.unknown is None:
            return words.changed(tf.reduce_any(unknown), lambda each: each.keep(tf.logical_not(unknown)))
        return words if self._fused else words.replace(codes=tf.where(unknown, int(self._stand_ins[0]), words.codes))

    def pieces(self, words: Segments, offsets: bool) -> Pieces:
        """Returns the pieces of each word."""
        return self._model.pieces(words, offsets)

    def _fill(self, made: dict[str, int]) -> None:
        single = {token: number for token, number in self.vocabulary.items() if len(token) == 1}
        self._known = Members(map(ord, single))
        stand_ins = list(itertools.islice(unused_characters(self.vocabulary), 256))
        self._stand_ins = np.array([ord(each) for each in stand_ins], "int32")
        others: dict[str, int] = {}
        if self._bytes is not None:
            others = {each: number for each, number in zip(stand_ins, self._bytes, strict=True) if number >= 0}
        elif self.unknown is not None and not self._fused:
            others = {stand_ins[0]: self.unknown}
        single |= others
        scores = dict.fromkeys(single, 0.0) | {token: -float(rank) for token, rank in made.items()}
        ids = [single.get(token, self.vocabulary.get(token, 0)) for token in scores]
        self._model = SentencePieces(scores, np.array(ids, "int32"), self.unknown, merges=True)
