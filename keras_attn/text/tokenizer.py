"""The base class of tokenizers: strings to padded ids and back, and the asset file with the vocabulary."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import keras
import tensorflow as tf

from keras_attn.base.checks import check_axes, check_number
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import ArrayLike, Config, LayerArguments, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

NUM_SPECIAL_IDS = 4  # of the tokenizers of this package, whose pieces follow

Texts: TypeAlias = Sequence[str | bytes] | Tensor
"""Strings `[B]`: a list of `str`, or of bytes in UTF-8, an array or a tensor."""


class Tokenizer(keras.layers.Layer):
    """Strings to ids and back inside a TensorFlow graph; abstract.

    A row of ids is `[pieces..., 2, 0, ...]`: 0 is padding, 1 start, 2 end, 3 unknown, and the
    tokenizer's own pieces begin at 4. The graph contains only operations of TensorFlow and TensorFlow
    Text, so a tokenizer can be exported in a SavedModel. The vocabulary is saved as an asset, in
    `.keras` files too, and is not part of the config.

    A subclass must define `_encode`, `_decode`, `_open` and `tokens`. If it has other special ids, it must
    also define `special_ids` and `vocabulary_size`.

    Args:
        max_length: Maximum number of ids in a row, including the start or end id; longer texts are
            truncated, so that one of them does not fail a whole batch. None for no limit.
        lowercase: Whether to convert texts to lower case first.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`. Bytes that are not UTF-8 are read as U+FFFD.

    Returns:
        int32 `[B, S]`, where S is the length of the longest row; an empty text is `[2]`.

    Raises:
        ValueError: If `texts` are not strings or do not have exactly one axis, or if there is no vocabulary yet.
    """

    asset_name: str = "vocabulary.txt"
    special_ids: SpecialIds = SpecialIds()

    def __init__(self, max_length: int | None = 512, lowercase: bool = False, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        check_number("max_length", max_length, int, optional=True, at_least=2)
        if not isinstance(lowercase, bool):
            raise ValueError(f"`lowercase` must be True or False. Received: lowercase={short_repr(lowercase)}.")
        self.max_length = max_length
        self.lowercase = lowercase
        self._asset_path: str | None = None
        # Keras would convert strings to tensors of its backend, and only TensorFlow has string tensors.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.built = True

    def call(self, texts: Texts) -> tf.Tensor:
        return self.tokenize(texts)

    def tokenize(self, texts: Texts) -> tf.Tensor:
        """Returns the ids of strings `[B]`, each row ended by the end id, then padded: int32 `[B, S]`."""
        return self.ragged(texts).to_tensor(self.special_ids.filler)

    def prompt(self, texts: Texts) -> tf.Tensor:
        """Returns the start id and the pieces of strings `[B]`, padded: int32 `[B, P]`.

        A decoder-only model continues a prompt of this form.
        """
        return self.ragged_prompt(texts).to_tensor(self.special_ids.filler)

    def ragged(self, texts: Texts) -> tf.RaggedTensor:
        """Returns the rows of `tokenize` without padding: a ragged int32 `[B, None]`."""
        pieces = self._truncate(self.pieces(texts))
        return tf.concat([pieces, tf.fill([pieces.nrows(), 1], self.special_ids.end)], axis=1)

    def ragged_prompt(self, texts: Texts) -> tf.RaggedTensor:
        """Returns the rows of `prompt` without padding: a ragged int32 `[B, None]`."""
        pieces = self._truncate(self.pieces(texts))
        return tf.concat([tf.fill([pieces.nrows(), 1], self.special_ids.start), pieces], axis=1)

    def pieces(self, texts: Texts) -> tf.RaggedTensor:
        """Returns all ids of strings `[B]`, without padding, start and end ids: a ragged int32 `[B, None]`."""
        self._filled_path()
        return tf.cast(self._encode(self._clean(as_texts(texts))), "int32")

    def detokenize(self, ids: ArrayLike | tf.RaggedTensor) -> tf.Tensor:
        """Returns the strings `[...]` of ids `[..., L]`.

        Each row is read up to its first end id. Padding and start ids are skipped; the unknown id
        and ids outside the vocabulary become U+FFFD, the replacement character.

        Raises:
            ValueError: If `ids` are not integers, or are a scalar.
        """
        self._filled_path()
        return self._texts_of(ids, self.special_ids.filler, self._texts_of_rows)

    def _texts_of(
        self, ids: ArrayLike | tf.RaggedTensor, filler: int, decode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Returns the strings `[...]` of ids `[..., L]` by a function of rows `[N, L]`."""
        ids = as_ids(ids, filler)
        shape = tf.shape(ids)
        texts = decode(tf.reshape(ids, [tf.reduce_prod(shape[:-1]), shape[-1]]))  # [N]
        return tf.ensure_shape(tf.reshape(texts, shape[:-1]), ids.shape[:-1])

    def _texts_of_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the strings `[N]` of rows `[N, L]`, each up to its first end id."""
        ended = tf.cumsum(tf.cast(tf.equal(rows, self.special_ids.end), "int32"), axis=-1) > 0
        special = tf.equal(rows, self.special_ids.start)
        if self.special_ids.padding is not None:
            special = tf.logical_or(tf.equal(rows, self.special_ids.padding), special)
        return self._decode(tf.ragged.boolean_mask(rows, tf.logical_not(tf.logical_or(ended, special))))

    def num_open_ids(self, ids: Sequence[int]) -> int:
        """Returns how many ids at the end of a row could have another text if more ids followed."""
        return 0

    @property
    def tokens(self) -> list[str]:
        """The pieces in the order of their ids, without the special ids."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `tokens`.")

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, including the special ids."""
        return NUM_SPECIAL_IDS + len(self.tokens)

    def compute_output_spec(self, texts: keras.KerasTensor) -> keras.KerasTensor:
        check_texts(texts)
        return keras.KerasTensor((texts.shape[0], None), "int32")

    def get_config(self) -> Config:
        return {**super().get_config(), "max_length": self.max_length, "lowercase": self.lowercase}

    def save_assets(self, dir_path: str | os.PathLike[str]) -> None:
        """Writes the vocabulary to a directory; Keras calls this when it saves a `.keras` file."""
        if self._asset_path is not None:
            shutil.copy(self._asset_path, pathlib.Path(dir_path) / self.asset_name)

    def load_assets(self, dir_path: str | os.PathLike[str]) -> None:
        """Reads the file that `save_assets` wrote, if there is one."""
        path = pathlib.Path(dir_path) / self.asset_name
        if path.exists():
            self._fill(path.read_bytes())

    def _encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of clean strings `[B]`, a ragged `[B, None]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `_encode(texts)`.")

    def _decode(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the strings `[N]` of ragged int64 ids `[N, None]` without padding, start and end."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `_decode(ids)`.")

    def _open(self, path: str) -> None:
        """Loads the lookup tables or the model from an asset file."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `_open(path)`.")

    def _fill(self, content: bytes) -> None:
        """Stores the bytes of an asset file and loads it. Exports copy the file, so the layer keeps one on disk."""
        directory = tempfile.mkdtemp(prefix="keras_attn_")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        path = pathlib.Path(directory) / self.asset_name
        path.write_bytes(content)
        self._open(str(path))
        self._asset_path = str(path)

    def _filled_path(self) -> str:
        """Returns the path of the asset file, or raises a `ValueError` if there is no vocabulary yet."""
        if self._asset_path is None:
            raise ValueError(
                f"`{self.__class__.__name__}` has no vocabulary yet: call `adapt(dataset)`, "
                "or pass an existing one to the constructor."
            )
        return self._asset_path

    def _clean(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns valid UTF-8, in lower case if `lowercase` is set."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        return lower(texts) if self.lowercase else texts

    def _truncate(self, pieces: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns at most `max_length - 1` pieces of each row: one special id is added later."""
        return pieces if self.max_length is None else pieces[:, : self.max_length - 1]


def as_texts(texts: Texts) -> tf.Tensor:
    """Returns a string tensor `[B]`, or raises a `ValueError`."""
    if isinstance(texts, (list, tuple)) and not texts:
        return tf.zeros([0], "string")
    try:
        texts = tf.convert_to_tensor(texts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`texts` must be strings [B]. Received: {texts.__class__.__name__}.") from error
    check_texts(texts)
    return texts


def prefixed(texts: Texts, prefix: str) -> tf.Tensor:
    """Returns strings `[B]` behind a prefix."""
    texts = as_texts(texts)
    return tf.strings.join([prefix, texts]) if prefix else texts


def check_texts(texts: tf.Tensor | keras.KerasTensor) -> None:
    """Raises a `ValueError` unless a tensor, symbolic or not, holds strings `[B]`."""
    dtype = tf.as_dtype(texts.dtype)
    if dtype != tf.string:
        raise ValueError(f"`texts` must be strings. Received: texts.dtype={dtype.name}.")
    check_axes({"texts": "B"}, {"texts": texts})


def as_ids(ids: ArrayLike | tf.RaggedTensor, filler: int) -> tf.Tensor:
    """Returns int64 ids `[..., L]`, ragged ones padded with `filler`, or raises a `ValueError`."""
    try:
        ids = ids.to_tensor(filler) if isinstance(ids, tf.RaggedTensor) else tf.convert_to_tensor(ids)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`ids` must be integers [..., L]. Received: {ids.__class__.__name__}.") from error
    if not ids.dtype.is_integer:
        raise ValueError(f"`ids` must be integers. Received: ids.dtype={ids.dtype.name}.")
    if ids.shape.rank == 0:
        raise ValueError("`ids` must have at least one axis, [..., L]. Received: ids.shape=().")
    return tf.cast(ids, "int64")


def lower(texts: tf.Tensor) -> tf.Tensor:
    """Returns strings `[B]` in lower case. TensorFlow's function stops at a NUL, so it converts each part."""
    parts = tf.strings.split(texts, sep="\0")  # [B, None]
    parts = parts.with_flat_values("\0" + tf.strings.lower(parts.flat_values, encoding="utf-8"))
    return tf.strings.regex_replace(tf.strings.reduce_join(parts, axis=-1), r"^\x00", "")
