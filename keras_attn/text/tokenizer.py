"""What all tokenizers share: strings to padded ids and back, and the asset file that holds what was learned."""

import pathlib
import shutil
import tempfile
import weakref

import keras
import tensorflow as tf

from keras_attn.base.checks import check_axes, check_number
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.tensors import short_repr

NUM_SPECIAL_IDS = 4  # of our own tokenizers, whose pieces follow


class Tokenizer(keras.layers.Layer):
    """Strings to ids and back inside a TensorFlow graph; abstract.

    A row of ids is `[pieces..., 2, 0, ...]`: 0 is padding, 1 start, 2 end, 3 unknown, and the
    tokenizer's own pieces begin at 4. Only operations of TensorFlow (and TensorFlow Text) are in
    the graph, so that a tokenizer goes into a SavedModel. What it learned travels as an asset, in
    `.keras` files too, and is no part of the config.

    Write your own by subclassing: `_encode`, `_decode`, `_open` and `tokens`; `special_ids` and
    `vocabulary_size` where its ids are others.

    Args:
        max_length: Number of ids that a row has at most, the start or end id counted; longer texts
            are cut, so that one of them does not fail a whole batch. None for no bound.
        lowercase: Whether texts are lower-cased first.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`. Bytes that are not UTF-8 are read as U+FFFD.

    Returns:
        int32 `[B, S]`, S being the length of the longest row; an empty text is `[2]`.

    Raises:
        ValueError: If `texts` is not made of strings or not of rank 1, or if nothing was learned yet.
    """

    asset_name = "vocabulary.txt"
    special_ids = SpecialIds()

    def __init__(self, max_length=512, lowercase=False, **kwargs):
        super().__init__(**kwargs)
        check_number("max_length", max_length, int, optional=True, at_least=2)
        if not isinstance(lowercase, bool):
            raise ValueError(f"`lowercase` must be True or False. Received: lowercase={short_repr(lowercase)}.")
        self.max_length = max_length
        self.lowercase = lowercase
        self._asset_path = None
        # Keras would hand strings to its backend, and only TensorFlow's knows them.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.built = True

    def call(self, texts):
        return self.tokenize(texts)

    def tokenize(self, texts):
        """Returns the ids of strings `[B]`, the end id behind each: int32 `[B, S]`, padding behind."""
        pieces = self._cut(self.pieces(texts))
        ends = tf.fill([pieces.nrows(), 1], self.special_ids.end)
        return tf.concat([pieces, ends], axis=1).to_tensor(self.special_ids.filler)

    def prompt(self, texts):
        """Returns the start id and the pieces of strings `[B]`: int32 `[B, P]`, padding behind.

        A decoder-only model continues a prompt of this form.
        """
        pieces = self._cut(self.pieces(texts))
        starts = tf.fill([pieces.nrows(), 1], self.special_ids.start)
        return tf.concat([starts, pieces], axis=1).to_tensor(self.special_ids.filler)

    def pieces(self, texts):
        """Returns the ids of strings `[B]`, uncut: a ragged int32 `[B, None]` without special ids but unknown."""
        self._check_filled()
        return tf.cast(self._encode(self._clean(as_texts(texts))), "int32")

    def detokenize(self, ids):
        """Returns the strings `[...]` of ids `[..., L]`.

        Each row is read up to its first end id. Padding and start ids yield nothing; the unknown
        id and ids outside of the vocabulary yield U+FFFD, the replacement character.

        Raises:
            ValueError: If `ids` are not integers, or a scalar.
        """
        self._check_filled()
        ids = as_ids(ids, self.special_ids.filler)
        shape = tf.shape(ids)
        rows = tf.reshape(ids, [tf.reduce_prod(shape[:-1]), shape[-1]])  # [N, L]
        ended = tf.cumsum(tf.cast(tf.equal(rows, self.special_ids.end), "int32"), axis=-1) > 0
        special = tf.equal(rows, self.special_ids.start)
        if self.special_ids.padding is not None:
            special = tf.logical_or(tf.equal(rows, self.special_ids.padding), special)
        kept = tf.logical_not(tf.logical_or(ended, special))
        texts = self._decode(tf.ragged.boolean_mask(rows, kept))  # [N]
        return tf.ensure_shape(tf.reshape(texts, shape[:-1]), ids.shape[:-1])

    @property
    def tokens(self):
        """The pieces in the order of their ids, a list of `str`; the special ids are left out."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `tokens`.")

    @property
    def vocabulary_size(self):
        """Number of ids, the special ones counted."""
        return NUM_SPECIAL_IDS + len(self.tokens)

    def compute_output_spec(self, texts):
        check_texts(texts)
        return keras.KerasTensor((texts.shape[0], None), "int32")

    def get_config(self):
        return {**super().get_config(), "max_length": self.max_length, "lowercase": self.lowercase}

    def save_assets(self, dir_path):
        """Writes what was learned into a directory; Keras calls this when it saves a `.keras` file."""
        if self._asset_path is not None:
            shutil.copy(self._asset_path, pathlib.Path(dir_path) / self.asset_name)

    def load_assets(self, dir_path):
        """Reads what `save_assets` wrote."""
        path = pathlib.Path(dir_path) / self.asset_name
        if path.exists():
            self._fill(path.read_bytes())

    def _encode(self, texts):
        """Returns the ids of clean strings `[B]`, a ragged `[B, None]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `_encode(texts)`.")

    def _decode(self, ids):
        """Returns the strings `[N]` of ragged int64 ids `[N, None]` without padding, start and end."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `_decode(ids)`.")

    def _open(self, path):
        """Makes the tables or the model from an asset file."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `_open(path)`.")

    def _fill(self, content):
        """Takes the bytes of an asset file. The file must exist until an export, so the layer owns one."""
        directory = tempfile.mkdtemp(prefix="keras_attn_")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        path = pathlib.Path(directory) / self.asset_name
        path.write_bytes(content)
        self._open(str(path))
        self._asset_path = str(path)

    def _check_filled(self):
        if self._asset_path is None:
            raise ValueError(
                f"`{self.__class__.__name__}` has no vocabulary yet: call `adapt(dataset)`, "
                "or give the constructor one that was made before."
            )

    def _clean(self, texts):
        """Returns valid UTF-8, lower-cased if wanted."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        return lower(texts) if self.lowercase else texts

    def _cut(self, pieces):
        """Leaves room for one special id."""
        return pieces if self.max_length is None else pieces[:, : self.max_length - 1]


def as_texts(texts):
    """Returns a string tensor `[B]`, or raises a `ValueError`."""
    if isinstance(texts, (list, tuple)) and not texts:
        return tf.zeros([0], "string")
    try:
        texts = tf.convert_to_tensor(texts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`texts` must be strings [B]. Received: {texts.__class__.__name__}.") from error
    check_texts(texts)
    return texts


def check_texts(texts):
    """Raises a `ValueError` unless a tensor, symbolic or not, holds strings `[B]`."""
    dtype = tf.as_dtype(texts.dtype)
    if dtype != tf.string:
        raise ValueError(f"`texts` must be strings. Received: texts.dtype={dtype.name}.")
    check_axes({"texts": "B"}, {"texts": texts})


def as_ids(ids, filler):
    """Returns int64 ids `[..., L]`, ragged ones filled up, or raises a `ValueError`."""
    try:
        ids = ids.to_tensor(filler) if isinstance(ids, tf.RaggedTensor) else tf.convert_to_tensor(ids)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`ids` must be integers [..., L]. Received: {ids.__class__.__name__}.") from error
    if not ids.dtype.is_integer:
        raise ValueError(f"`ids` must be integers. Received: ids.dtype={ids.dtype.name}.")
    if ids.shape.rank == 0:
        raise ValueError("`ids` must have at least one axis, [..., L]. Received: ids.shape=().")
    return tf.cast(ids, "int64")


def lower(texts):
    """Returns strings `[B]` in lower case. TensorFlow's own stops at a NUL, so the parts between are lowered."""
    parts = tf.strings.split(texts, sep="\0")  # [B, None]
    parts = parts.with_flat_values("\0" + tf.strings.lower(parts.flat_values, encoding="utf-8"))
    return tf.strings.regex_replace(tf.strings.reduce_join(parts, axis=-1), r"^\x00", "")
