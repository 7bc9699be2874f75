"""The pieces of a SentencePiece model as strings, as the package `sentencepiece` 0.2 splits texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from keras_attn.text.optional import text_module
from keras_attn.text.sentence_piece import processor
from keras_attn.text.tokenizer_json.segments import from_texts, row_numbers
from keras_attn.text.tokenizer_json.unigram import Unigram

NORMAL, UNKNOWN, CONTROL = 1, 2, 3  # types of pieces
UNIGRAM, CHAR = 1, 4  # types of models

Pieces: TypeAlias = Callable[[tf.Tensor], tf.RaggedTensor]
"""From strings `[B]` to the strings of their pieces, ragged `[B, None]`."""


def pieces_of(model: bytes) -> tuple[Pieces, list[str]]:
    """Returns the function of a SentencePiece model, and its pieces that have no text.

    The operations of TensorFlow Text contain an older version of SentencePiece, which rounds sums of scores in
    another order: of two splits of equal scores, such as `). ))` and `)) .)`, it may choose the other one. Unigram
    models of normal pieces therefore have an own search, which adds in the order of the new version.
    """
    proto = text_module("sentencepiece.sentencepiece_model_pb2").ModelProto.FromString(model)
    silent = [piece.piece for piece in proto.pieces if piece.type == CONTROL]
    types = {piece.type for piece in proto.pieces}
    if proto.trainer_spec.model_type == UNIGRAM and types <= {NORMAL, UNKNOWN, CONTROL}:
        return UnigramPieces(model), silent
    return lambda texts: processor(model, tf.string).tokenize(texts), silent


class UnigramPieces(tf.Module):
    """The pieces of a unigram model.

    Args:
        model: The bytes of the model.
    """

    def __init__(self, model: bytes) -> None:
        super().__init__()
        proto = text_module("sentencepiece.sentencepiece_model_pb2").ModelProto.FromString(model)
        vocabulary = [[piece.piece, piece.score] for piece in proto.pieces if piece.type == NORMAL]
        self._model = Unigram({"vocab": [["", 0.0], *vocabulary], "unk_id": 0}, dtype="float32")
        del proto.pieces[:]
        proto.pieces.add(piece="<unk>", type=UNKNOWN)
        proto.trainer_spec.model_type = CHAR
        self._normalizer: bytes = proto.SerializeToString()  # to one unknown piece: the normalized text
        self._compiled = tf.function(self.__call__, [tf.TensorSpec([None], tf.string)], autograph=False)

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the pieces of strings `[B]`."""
        if tf.executing_eagerly():
            return self._compiled(texts)
        normalized = tf.strings.reduce_join(processor(self._normalizer, tf.string).tokenize(texts), axis=-1)
        segments = from_texts(normalized)
        pieces = self._model.pieces(segments, offsets=True)
        starts = pieces.starts + tf.gather(segments.splits, row_numbers(pieces.splits, tf.size(pieces.ids)))
        ends = tf.cast(tf.concat([starts, [tf.size(segments.codes)]], 0), tf.int64)
        codes = tf.RaggedTensor.from_row_splits(segments.codes, ends, validate=False)
        strings = tf.strings.unicode_encode(codes, "UTF-8")
        return tf.RaggedTensor.from_row_splits(strings, tf.cast(pieces.splits, tf.int64), validate=False)
