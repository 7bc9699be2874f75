"""A tokenizer with the ids of a pretrained model, from its tokenizer.json."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from keras_attn.base.checks import check_slot
from keras_attn.base.slot import register
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import ArrayLike, Config, LayerArguments
from keras_attn.text.chat import Chat, shortened
from keras_attn.text.sentence_piece import AssetFile
from keras_attn.text.tokenizer import Texts, Tokenizer, prefixed
from keras_attn.text.tokenizer_json.pipeline import Pipeline
from keras_attn.text.tokenizer_json.special import derived_special_ids, mask_token

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class PretrainedTokenizer(Tokenizer):
    """The ids of a pretrained model's own tokenizer, special tokens included, from its `tokenizer.json`.

    The ids, offsets and decoded texts are those of the `tokenizers` package 0.23. The graph has only operations
    of TensorFlow and TensorFlow Text. Known sections:

    | section | types |
    |---|---|
    | `normalizer` | `BertNormalizer`, `Lowercase`, `NFC`, `NFD`, `NFKC`, `NFKD`, `Precompiled`, `Prepend` of one \
character, `Replace` of a text, of several spaces or of line ends, `Sequence`, `Strip`, `StripAccents` |
    | `pre_tokenizer` | `BertPreTokenizer`, `ByteLevel`, `Digits`, `Metaspace`, `Punctuation`, `Sequence`, `Split` by \
a text or by the patterns of GPT-2, Llama 3 and Qwen 2, `Whitespace`, `WhitespaceSplit`, none |
    | `model` | `WordPiece`, `BPE` and `Unigram`, also with `byte_fallback` |
    | `post_processor` | `BertProcessing`, `ByteLevel`, `RobertaProcessing`, `Sequence`, `TemplateProcessing` |
    | `decoder` | `ByteFallback`, `ByteLevel`, `Fuse`, `Metaspace`, `Replace` of a text, `Sequence`, `Strip`, \
`WordPiece`, none |
    | `added_tokens` | all |

    What is not equal: the offsets of an added token that takes the spaces on both sides, where spaces are trimmed
    (`RobertaProcessing`, `ByteLevel`); the offsets behind a `Prepend` that follows a `Strip`, and behind characters
    that a model without an unknown token leaves out; `Precompiled`, for a map with rules for single conjoining Hangul
    vowels, emoji or Indic consonants that stand behind a joiner, which the common maps do not have.

    Args:
        spec: Path of a `tokenizer.json`, or its bytes; None for a tokenizer that `load_assets` fills.
        max_length: Maximum number of ids in a row, special tokens included; longer texts are truncated.
            None for no limit. What the file says about truncation and padding is not read.
        special_ids: The special ids; None to derive them from the file: the first and the last special
            token around a text, the token of the section `padding` or one named `[PAD]` or `<pad>`, and
            the model's unknown token.
        prefix: Text that is put before every text, for example `"translate English to German: "`.
        chat: What stands before and behind one turn of a user in a prompt, `text.Chat(prefix, suffix)`, or None
            for prompts that are plain texts. Only `prompt` reads it.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`. Bytes that are not UTF-8 are read as U+FFFD.

    Returns:
        int32 `[B, S]`: the ids of each text with its special tokens, padded to the longest row.

    Raises:
        ValueError: If the file has a type, a field or a value that changes ids and is not known; the message
            names it.
        ImportError: Without TensorFlow Text.

    Example:
    >>> import json
    >>> from keras_attn import text
    >>> spec = {
    ...     "model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "play": 4,
    ...                                              "##ing": 5, "chess": 6}},
    ...     "normalizer": {"type": "BertNormalizer", "lowercase": True},
    ...     "pre_tokenizer": {"type": "BertPreTokenizer"},
    ...     "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
    ...     "decoder": {"type": "WordPiece"},
    ...     "added_tokens": [{"id": i, "content": t, "special": True, "normalized": False}
    ...                      for i, t in enumerate(["[UNK]", "[CLS]", "[SEP]", "[PAD]"])],
    ... }
    >>> tokenizer = text.PretrainedTokenizer(json.dumps(spec).encode())
    >>> ids = tokenizer(["Playing chess", "Chess?"])
    >>> ids.numpy().tolist()
    [[1, 4, 5, 6, 2], [1, 6, 0, 2, 3]]
    >>> tokenizer.detokenize(ids).numpy().tolist()
    [b'playing chess', b'chess']
    >>> tokenizer.special_ids.padding, tokenizer.special_ids.end
    (3, 2)

    A program that loads the SavedModel must `import tensorflow_text`; TF Serving has its operations.
    """

    asset_name = "tokenizer.json"

    def __init__(
        self,
        spec: str | os.PathLike[str] | bytes | None = None,
        max_length: int | None = 512,
        special_ids: SpecialIds | Config | None = None,
        prefix: str = "",
        chat: Chat | Config | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(max_length, **kwargs)
        if not isinstance(prefix, str):
            raise ValueError(f"`prefix` must be a string. Received: prefix={short_repr(prefix)}.")
        self.prefix = prefix
        if isinstance(chat, dict):
            chat = keras.saving.deserialize_keras_object(chat)
        if isinstance(special_ids, dict):
            special_ids = keras.saving.deserialize_keras_object(special_ids)
        self.chat: Chat | None = check_slot("chat", chat, Chat)
        self._given_ids: SpecialIds | None = check_slot("special_ids", special_ids, SpecialIds)
        if self._given_ids is not None:
            self.special_ids = self._given_ids
        if spec is not None:
            self._fill(spec_bytes(spec))

    def ragged(self, texts: Texts) -> tf.RaggedTensor:
        """Returns the ids of strings `[B]` with the template around them: a ragged int32 `[B, None]`."""
        return self._filled().template.row(self.pieces(texts), self.max_length)

    def ragged_prompt(self, texts: Texts) -> tf.RaggedTensor:
        """Returns the rows of `ragged` without the end id of the template: a ragged int32 `[B, None]`.

        The template says whether there is a start id. A row that would be empty has the start id. With a `chat`,
        rows are the prompts of one turn of a user, without the template; of one that is too long, the end of the
        text is left out.
        """
        if self.chat is not None:
            rows = super().pieces(self.chat.prompts(prefixed(texts, self.prefix)))
            return shortened(rows, self.max_length, self._num_behind)
        template = self._filled().template.without_end(self.special_ids.end)
        rows = template.row(self.pieces(texts), self.max_length)
        missing = tf.cast(tf.equal(rows.row_lengths(), 0), tf.int64)
        starts = tf.fill([tf.reduce_sum(missing)], self.special_ids.start)
        return tf.concat([tf.RaggedTensor.from_row_lengths(starts, missing), rows], axis=1)

    def pieces(self, texts: Texts) -> tf.RaggedTensor:
        return super().pieces(prefixed(texts, self.prefix))

    def tokenize_pairs(self, texts: Texts, pairs: Texts) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the ids of pairs of strings `[B]` and their segments, both int32 `[B, S]`.

        Of a pair that is too long, the longer text is truncated first. The segments of padding are 0. A prefix
        stands before the first text only.
        """
        first, second = self.pieces(texts), super().pieces(pairs)
        ids, segments = self._filled().template.rows(first, second, self.max_length)
        return ids.to_tensor(self.special_ids.filler), segments.to_tensor(0)

    def tokenize_with_offsets(self, texts: Texts) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the ids of strings `[B]`, and where each starts and ends in its text: int32 `[B, S]`.

        Offsets count code points. Special tokens of the template, tokens of the prefix and padding have 0 and 0.
        """
        pipeline = self._filled()
        ids, starts, ends = pipeline.ids_with_offsets(self._clean(prefixed(texts, self.prefix)))
        template, limit = pipeline.template, self.max_length
        ids = template.row(ids, limit).to_tensor(self.special_ids.filler)
        starts, ends = (template.row(each, limit, special=0).to_tensor(0) for each in (starts, ends))
        starts, ends = (tf.maximum(each - len(self.prefix), 0) for each in (starts, ends))
        return ids, starts, ends

    def detokenize(self, ids: ArrayLike | tf.RaggedTensor) -> tf.Tensor:
        """Returns the strings `[...]` of ids `[..., L]`. Special tokens and ids without a token are skipped.

        Raises:
            ValueError: If `ids` are not integers, or are a scalar.
        """
        pipeline = self._filled()
        return self._texts_of(ids, -1, lambda rows: pipeline.strings(tf.RaggedTensor.from_tensor(rows)))

    def num_open_ids(self, ids: Sequence[int]) -> int:
        return self._filled().num_open_ids(ids)

    @property
    def tokens(self) -> list[str]:
        """All tokens in the order of their ids; "" for an id without a token."""
        return list(self._filled().tokens)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids."""
        return len(self._filled().tokens)

    @property
    def mask_id(self) -> int | None:
        """The id of the token that stands for a masked word, or None."""
        return mask_token(self._filled())

    def get_config(self) -> Config:
        config = {**super().get_config(), "special_ids": keras.saving.serialize_keras_object(self._given_ids)}
        del config["lowercase"]
        return {**config, "prefix": self.prefix, "chat": keras.saving.serialize_keras_object(self.chat)}

    def _encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return self._filled().ids(texts)

    def _open(self, path: str) -> None:
        with tf.init_scope():
            self._pipeline = Pipeline(pathlib.Path(path).read_bytes())
            suffix = tf.constant(["" if self.chat is None else self.chat.suffix])
            self._num_behind = int(self._pipeline.ids(suffix).row_lengths()[0])  # ids of the chat behind a text
        if self._given_ids is None:
            self.special_ids = derived_special_ids(self._pipeline)
        self._file = AssetFile(path)

    def _filled(self) -> Pipeline:
        self._filled_path()
        return self._pipeline


def spec_bytes(spec: str | os.PathLike[str] | bytes) -> bytes:
    """Returns the bytes of a tokenizer.json given as bytes or as a path."""
    if isinstance(spec, bytes):
        return spec
    if not isinstance(spec, (str, os.PathLike)) or not pathlib.Path(spec).is_file():
        raise ValueError(f"`spec` must be the path of a tokenizer.json or its bytes. Received: {short_repr(spec)}.")
    return pathlib.Path(spec).read_bytes()
