"""The model BPE on the characters of bytes."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_attn.text.tokenizer_json.added_tokens import table
from keras_attn.text.tokenizer_json.byte_level import CHARACTERS
from keras_attn.text.tokenizer_json.code_points import Members
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, read, refuse
from keras_attn.text.tokenizer_json.pair_merging import made_tokens, merge_ranks
from keras_attn.text.tokenizer_json.pieces import Pieces
from keras_attn.text.tokenizer_json.segments import Segments
from keras_attn.text.tokenizer_json.sentence_pieces import SentencePieces


class BytePairs(tf.Module):
    """The pieces of words whose characters stand for bytes.

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
        missing = [character for character in CHARACTERS if character not in self.vocabulary]
        if missing and (fields["byte_fallback"] or (token is not None and fields["fuse_unk"])):
            refuse("model.vocab", missing, "have a token for each byte")
        self._dropped = Members(map(ord, missing)) if missing and self.unknown is None else None
        made = made_tokens(self.vocabulary, merge_ranks(fields["merges"]))
        self._fill(made, {} if self.unknown is None else dict.fromkeys(missing, self.unknown))
        whole = {token: number for token, number in self.vocabulary.items() if len(token) > 1 and token not in made}
        whole = whole if fields["ignore_merges"] else {}
        self._whole = table(whole, list(whole.values()), -1) if whole else None

    def prepare(self, words: Segments) -> Segments:
        """Returns words with the ids of those that `ignore_merges` finds, and no merges make.

        Without an unknown token, bytes that the vocabulary has not are left out.
        """
        if self._whole is not None:
            words = words.replace(ids=tf.where(words.ids < 0, self._whole.lookup(words.strings()), words.ids))
        if self._dropped is not None:
            words = words.keep(tf.logical_not(self._dropped.lookup(words.codes)))
        return words

    def pieces(self, words: Segments, offsets: bool) -> Pieces:
        """Returns the pieces of each word."""
        return self._model.pieces(words, offsets)

    def _fill(self, made: dict[str, int], unknown: dict[str, int]) -> None:
        single = {token: number for token, number in self.vocabulary.items() if len(token) == 1} | unknown
        scores = dict.fromkeys(single, 0.0) | {token: -float(rank) for token, rank in made.items()}
        ids = [single.get(token, self.vocabulary.get(token, 0)) for token in scores]
        self._model = SentencePieces(scores, np.array(ids, "int32"), self.unknown, merges=True)
