"""A tokenizer with the ids of a Marian model: pieces of a SentencePiece model, looked up in a vocabulary of its own."""

from __future__ import annotations

import base64
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_attn.base.checks import check_slot
from keras_attn.base.slot import register
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import ArrayLike, Config, LayerArguments
from keras_attn.text.chat import SPACES
from keras_attn.text.marian_pieces import pieces_of
from keras_attn.text.sentence_piece import AssetFile, model_bytes
from keras_attn.text.tokenizer import Texts, Tokenizer, prefixed
from keras_attn.text.tokenizer_json.added_tokens import table
from keras_attn.text.tokenizer_json.finding import SEPARATOR, escaped

if TYPE_CHECKING:
    from typing_extensions import Unpack

LANGUAGE = r"(?s)^>>.*?<<"


@register
class MarianTokenizer(Tokenizer):
    """The ids of a Marian model's own tokenizer: `transformers.MarianTokenizer` for one of the two languages.

    A text is `pieces... </s>`. Pieces are those of a SentencePiece model; their ids are those of a vocabulary. A
    text may begin with the code of its target language, `>>fra<<`, and special tokens may stand in it.

    Args:
        model: Path of `source.spm` or `target.spm`, or its bytes; None for a tokenizer that `load_assets` fills.
        vocabulary: Path of `vocab.json`, or its contents: the ids by their tokens.
        max_length: Maximum number of ids in a row, the end id included; longer texts are truncated. None for no limit.
        special_ids: The special ids; None for those of `<pad>`, `</s>` and `<unk>`, with padding as the start id.
        prefix: Text that is put before every text, for example `">>fra<< "`.
        special_tokens: Tokens that have no text; None for those of `special_ids`.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`. Bytes that are not UTF-8 are read as U+FFFD.

    Returns:
        int32 `[B, S]`: ids, the end id, then padding up to the longest row.

    Raises:
        ValueError: If the vocabulary has not the special tokens, or has several tokens for one id.
        ImportError: Without TensorFlow Text.

    Example:
    >>> import io
    >>> import sentencepiece
    >>> from keras_attn import text
    >>> model = io.BytesIO()
    >>> sentencepiece.SentencePieceTrainer.train(
    ...     sentence_iterator=iter(["the cat", "the dog"] * 9), model_writer=model, vocab_size=7, model_type="word",
    ...     hard_vocab_limit=False, minloglevel=2)
    >>> vocabulary = {"</s>": 0, "<unk>": 1, "▁the": 2, "▁cat": 3, ">>fra<<": 4, "<pad>": 5}
    >>> tokenizer = text.MarianTokenizer(model.getvalue(), vocabulary)
    >>> ids = tokenizer([">>fra<< the cat", "the bird"])
    >>> ids.numpy().tolist()
    [[4, 2, 3, 0], [2, 1, 0, 5]]
    >>> tokenizer.detokenize([[2, 3, 0, 5]]).numpy().tolist()
    [b'the cat']

    A program that loads the SavedModel must `import tensorflow_text`; TF Serving has its operations.

    References:
        Junczys-Dowmunt et al. 2018, Marian: Fast Neural Machine Translation in C++, arXiv:1804.00344.
    """

    asset_name = "marian.json"

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | None = None,
        vocabulary: str | os.PathLike[str] | Mapping[str, int] | None = None,
        max_length: int | None = 512,
        special_ids: SpecialIds | Config | None = None,
        prefix: str = "",
        special_tokens: Iterable[str] | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(max_length, **kwargs)
        if not isinstance(prefix, str):
            raise ValueError(f"`prefix` must be a string. Received: prefix={short_repr(prefix)}.")
        self.prefix = prefix
        if isinstance(special_ids, dict):
            special_ids = keras.saving.deserialize_keras_object(special_ids)
        self._given_ids: SpecialIds | None = check_slot("special_ids", special_ids, SpecialIds)
        if self._given_ids is not None:
            self.special_ids = self._given_ids
        if model is not None:
            ids = vocabulary_of(vocabulary)
            special = None if special_tokens is None else list(special_tokens)
            encoded = base64.b64encode(model_bytes(model)).decode()
            content = {"model": encoded, "vocabulary": ids, "special_tokens": special}
            self._fill(json.dumps(content).encode())

    def pieces(self, texts: Texts) -> tf.RaggedTensor:
        return super().pieces(prefixed(texts, self.prefix))

    def detokenize(self, ids: ArrayLike | tf.RaggedTensor) -> tf.Tensor:
        """Returns the strings `[...]` of ids `[..., L]`. Special tokens and ids without a token are skipped.

        Raises:
            ValueError: If `ids` are not integers, or are a scalar.
        """
        self._filled_path()
        return self._texts_of(ids, -1, lambda rows: self._decode(tf.RaggedTensor.from_tensor(rows)))

    @property
    def tokens(self) -> list[str]:
        """All tokens in the order of their ids; "" for an id without a token."""
        self._filled_path()
        return list(self._tokens)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids."""
        return len(self.tokens)

    def get_config(self) -> Config:
        config = super().get_config()
        del config["lowercase"]
        special_ids = keras.saving.serialize_keras_object(self._given_ids)
        return {**config, "special_ids": special_ids, "prefix": self.prefix}

    def _open(self, path: str) -> None:
        content: dict[str, Any] = json.loads(pathlib.Path(path).read_bytes())
        ids: dict[str, int] = content["vocabulary"]
        self._tokens = tokens_of(ids)
        if self._given_ids is None:
            self.special_ids = special_ids_of(ids)
        special = content["special_tokens"]
        if special is None:
            numbers = self.special_ids.padding, self.special_ids.end, self.special_ids.unknown
            special = [self._tokens[number] for number in numbers if number is not None]
        missing = sorted(set(special) - set(ids))
        if missing:
            raise ValueError(f"`special_tokens` must be in `vocabulary`. Received: {missing}.")
        self._special = "|".join(map(escaped, sorted(special, key=len, reverse=True)))
        unknown = self.special_ids.unknown
        with tf.init_scope():
            self._pieces, silent = pieces_of(base64.b64decode(content["model"]))
            self._ids = table(ids, list(ids.values()), -1 if unknown is None else unknown)
        texts = [token.replace("▁", " ") for token in self._tokens]
        silent += special
        texts = ["" if token in silent else text for token, text in zip(self._tokens, texts, strict=True)]
        self._surfaces = np.array([text.encode() for text in (*texts, "")], object)
        self._file = AssetFile(path)

    def _encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        marked = tf.strings.regex_replace(texts, self._special, SEPARATOR + rb"\0" + SEPARATOR)
        parts = tf.strings.split(marked, SEPARATOR)  # plain parts and special tokens take turns
        flat = parts.flat_values
        place = tf.range(tf.size(flat, tf.int64)) - tf.gather(parts.row_splits, parts.value_rowids())
        is_special = place % 2 > 0
        rest = tf.where(is_special, "", tf.strings.regex_replace(flat, LANGUAGE, "", replace_global=False))
        size = tf.strings.length(flat) - tf.strings.length(rest)  # of a special token or a language code
        heads = tf.strings.substr(flat, tf.zeros_like(size), size)
        has_head = size > 0
        head = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(heads, has_head), tf.cast(has_head, tf.int64))
        pieces = tf.concat([head, self._pieces(rest)], axis=1)
        return self._ids.lookup(parts.with_flat_values(pieces).merge_dims(1, 2))

    def _decode(self, ids: tf.RaggedTensor) -> tf.Tensor:
        flat = ids.flat_values
        known = tf.logical_and(flat >= 0, flat < len(self._tokens))
        surfaces = tf.gather(tf.constant(self._surfaces), tf.where(known, flat, len(self._tokens)))
        joined = tf.strings.reduce_join(ids.with_flat_values(surfaces), axis=-1)
        return tf.strings.regex_replace(joined, f"^{SPACES}+|{SPACES}+$", "")


def vocabulary_of(vocabulary: str | os.PathLike[str] | Mapping[str, int] | None) -> dict[str, int]:
    """Returns the ids by their tokens, from a file or a mapping, or raises a `ValueError`."""
    if isinstance(vocabulary, (str, os.PathLike)) and pathlib.Path(vocabulary).is_file():
        vocabulary = json.loads(pathlib.Path(vocabulary).read_text("utf-8"))
    if not isinstance(vocabulary, Mapping):
        must = "be the path of a vocab.json, or the ids by their tokens"
        raise ValueError(f"`vocabulary` must {must}. Received: {short_repr(vocabulary)}.")
    return dict(vocabulary)


def tokens_of(ids: Mapping[str, int]) -> list[str]:
    """Returns the tokens in the order of their ids, or raises a `ValueError` if an id has several."""
    if len(set(ids.values())) < len(ids):
        raise ValueError("`vocabulary` must have one token for each id. Received: several for one.")
    by_id = {number: token for token, number in ids.items()}
    return [by_id.get(number, "") for number in range(max(by_id, default=-1) + 1)]


def special_ids_of(ids: Mapping[str, int]) -> SpecialIds:
    """Returns the special ids of a vocabulary."""
    missing = [token for token in ("<pad>", "</s>", "<unk>") if token not in ids]
    if missing:
        raise ValueError(f"`special_ids` must be given for a vocabulary without {missing}. Received: special_ids=None.")
    return SpecialIds(ids["<pad>"], ids["<pad>"], ids["</s>"], ids["<unk>"])
