"""A model of SentencePiece that is made from tokens and their scores, without any normalization."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from keras_attn.text.optional import text_module
from keras_attn.text.sentence_piece import processor
from keras_attn.text.tokenizer_json.pieces import Pieces, in_code_points
from keras_attn.text.tokenizer_json.segments import Segments, spread

UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN = 1, 2


class SentencePieces:
    """The pieces of words.

    Args:
        scores: The score of each token.
        ids: The id of each token, in the same order.
        unknown: The id of characters without a token, or None if there are none.
        merges: Whether tokens are made by merges, the best score first; otherwise the best sum of scores counts.
    """

    def __init__(self, scores: Mapping[str, float], ids: np.ndarray, unknown: int | None, merges: bool) -> None:
        proto = text_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
        proto.trainer_spec.model_type = BPE if merges else UNIGRAM
        proto.normalizer_spec.name = "identity"
        proto.normalizer_spec.precompiled_charsmap = identity_charsmap()
        proto.normalizer_spec.add_dummy_prefix = False
        proto.normalizer_spec.remove_extra_whitespaces = False
        proto.normalizer_spec.escape_whitespaces = False
        unknown_piece = next(name for name in ("<unk>", "<unk>\uffff", "<unk>\uffff\uffff") if name not in scores)
        proto.pieces.add(piece=unknown_piece, type=UNKNOWN)
        for token, score in scores.items():
            proto.pieces.add(piece=token, score=score, type=NORMAL)
        self._proto: bytes = proto.SerializeToString()
        self._ids = np.concatenate([[0 if unknown is None else unknown], ids]).astype("int32")

    def pieces(self, words: Segments, offsets: bool) -> Pieces:
        """Returns the pieces of each word, of equal words once."""
        strings, place = tf.unique(words.strings())
        model = processor(self._proto)
        found = model.tokenize_with_offsets(strings) if offsets else (model.tokenize(strings),)
        ids = tf.gather(tf.constant(self._ids), found[0].flat_values)
        parts = [ids, *(tf.cast(each.flat_values, tf.int32) for each in found[1:])]
        splits = tf.cast(found[0].row_splits, tf.int32)
        pieces = Pieces(*copied(parts, splits, place))
        return in_code_points(words, pieces) if offsets else pieces


def identity_charsmap() -> bytes:
    """Returns normalization rules that change nothing; without any, a line is logged each time the model is loaded.

    The only rule writes U+0001 as itself. The trie has its root at 0, one child, and there the place of the text.
    """
    root, child, leaf = 256, 256 + 1, 512
    units = np.zeros(768, "<u4")
    units[0] = root << 10
    units[root] = 0xFF  # not a child for NUL
    units[child] = (child ^ leaf) << 10 | 1 << 8 | 1
    units[leaf] = 1 << 31
    return struct.pack("<I", units.nbytes) + units.tobytes() + b"\x01\0"


def copied(parts: list[tf.Tensor], splits: tf.Tensor, rows: tf.Tensor) -> list[tf.Tensor]:
    """Returns the values of rows, and the row splits, in a new order; a row may come several times."""
    starts = tf.gather(splits, rows)
    sizes = tf.gather(splits, rows + 1) - starts
    new = tf.concat([[0], tf.cumsum(sizes)], 0)
    source, place = spread(sizes)
    at = tf.gather(starts, source) + place
    first, *others = (tf.gather(part, at) for part in parts)
    return [first, new, *others]
