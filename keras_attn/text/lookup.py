"""Tokenizers that look up each piece in a table, made from a vocabulary file with one piece per line."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import tensorflow as tf

from keras_attn.base.checks import is_number
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import LayerArguments
from keras_attn.text.corpus import TextDataset, text_batches
from keras_attn.text.tokenizer import NUM_SPECIAL_IDS, Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Unicode's White_Space characters, as a regular expression for both TensorFlow and Python.
WHITESPACE = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
LINE, LINE_NUMBER = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER

Unit: TypeAlias = bytes | int
"""A unit of a text outside the graph: a string in UTF-8, or a code point."""


class LookupTokenizer(Tokenizer):
    """Splits texts into units and looks up the id of each; abstract.

    Args:
        vocabulary: The tokens in the order of their ids, without the special ids; None to learn them
            by `adapt`.
        max_length, lowercase: As for `Tokenizer`.

    Attributes:
        unit_dtype: The dtype of a unit in the graph.
        unit_column: The column of the unit in a line of the vocabulary file.
        unknown_unit: The unit for ids outside the vocabulary.
        token_kind: What a token must be, for error messages.
    """

    unit_dtype: tf.DType = tf.string
    unit_column: int = LINE
    unknown_unit: str | int = "\ufffd"
    token_kind: str = "strings, neither empty nor with whitespace"

    def __init__(
        self,
        vocabulary: Iterable[str] | None = None,
        max_length: int | None = 512,
        lowercase: bool = False,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(max_length, lowercase, **kwargs)
        if vocabulary is not None:
            self._fill_tokens(vocabulary)

    def adapt(self, dataset: TextDataset, vocabulary_size: int | None = None, verbose: int = 1) -> None:
        """Learns the vocabulary, which replaces the current one.

        Args:
            dataset: A `tf.data.Dataset` of string scalars or of strings `[B]`, or an iterable of `str`.
            vocabulary_size: Maximum number of ids, including the special ids; None keeps every token. The most
                frequent tokens are kept; equally frequent tokens are ordered by their code points.
            verbose: 1 shows a progress bar, 0 shows none.

        Raises:
            ValueError: If the dataset has no token, or `vocabulary_size` is too small for one.
        """
        if vocabulary_size is not None:
            check_vocabulary_size(vocabulary_size)
        counts: collections.Counter[Unit] = collections.Counter()
        for texts in text_batches(dataset, verbose):
            counts.update(self._units(self._clean(texts)).flat_values.numpy().tolist())
        if not counts:
            raise ValueError("`dataset` must have at least one token. Received: none.")
        self._fill_tokens(self._choose({self._token(unit): count for unit, count in counts.items()}, vocabulary_size))

    @property
    def tokens(self) -> list[str]:
        with open(self._filled_path(), "rb") as file:
            return [self._parse(line) for line in file.read().decode().split("\n")[:-1]]

    def _units(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the units of clean strings `[B]`, a ragged `[B, None]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `_units(texts)`.")

    def _token(self, unit: Unit) -> str:
        """Returns a unit as `str`."""
        return chr(unit) if isinstance(unit, int) else unit.decode()

    def _line(self, token: str) -> str:
        """Returns the line of the vocabulary file for a token."""
        return token

    def _parse(self, line: str) -> str:
        """Returns the token of a line."""
        return line

    def _is_token(self, token: str) -> bool:
        """Whether a string may be in the vocabulary."""
        return token != "" and not re.search(WHITESPACE, token)

    def _choose(self, counts: Mapping[str, int], vocabulary_size: int | None) -> list[str]:
        """Returns the tokens to keep, in the order of their ids."""
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        return ranked if vocabulary_size is None else ranked[: vocabulary_size - NUM_SPECIAL_IDS]

    def _fill_tokens(self, vocabulary: Iterable[str]) -> None:
        if not isinstance(vocabulary, Iterable) or (isinstance(vocabulary, str) and self.unit_dtype == tf.string):
            raise ValueError(f"`vocabulary` must be an iterable of tokens. Received: {short_repr(vocabulary)}.")
        tokens = list(vocabulary)
        for token in tokens:
            if not isinstance(token, str) or has_surrogates(token) or not self._is_token(token):
                raise ValueError(
                    f"`vocabulary` must be made of {self.token_kind}. Received the token {short_repr(token)}."
                )
        if len(set(tokens)) != len(tokens):
            twice = next(token for token, count in collections.Counter(tokens).items() if count > 1)
            raise ValueError(f"`vocabulary` must have each token once. Received twice: {short_repr(twice)}.")
        if not tokens:
            raise ValueError("`vocabulary` must have at least one token. Received: none.")
        self._fill("".join(f"{self._line(token)}\n" for token in tokens).encode())

    def _open(self, path: str) -> None:
        unit, line = (self.unit_dtype, self.unit_column), (tf.int64, LINE_NUMBER)
        self._ids_of_units = lookup_table(path, unit, line, self.special_ids.unknown)
        self._units_of_ids = lookup_table(path, line, unit, self.unknown_unit)

    def _encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return self._ids_of_units.lookup(self._units(texts))


def lookup_table(
    path: str, key: tuple[tf.DType, int], value: tuple[tf.DType, int], default: str | int | None
) -> tf.lookup.StaticHashTable:
    """Returns a table from a file, whose path becomes an asset; `key` and `value` are dtypes and columns."""
    lines = tf.lookup.TextFileInitializer(path, *key, *value, delimiter="\t", value_index_offset=NUM_SPECIAL_IDS)
    return tf.lookup.StaticHashTable(lines, default)


def has_surrogates(token: str) -> bool:
    """Whether a string contains halves of surrogate pairs, which UTF-8 cannot encode."""
    return any("\ud800" <= character <= "\udfff" for character in token)


def check_vocabulary_size(vocabulary_size: int | None) -> int:
    """Returns the size, or raises a `ValueError` unless it is larger than the number of special ids."""
    must = f"be an integer above the {NUM_SPECIAL_IDS} special ids"
    if vocabulary_size is None or not is_number(vocabulary_size, int, above=NUM_SPECIAL_IDS):
        raise ValueError(f"`vocabulary_size` must {must}. Received: vocabulary_size={short_repr(vocabulary_size)}.")
    return vocabulary_size
