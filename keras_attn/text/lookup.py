"""Tokenizers whose pieces are the lines of a vocabulary file, looked up in a table."""

import collections
import re
from collections.abc import Iterable

import tensorflow as tf

from keras_attn.base.checks import check_number
from keras_attn.base.tensors import short_repr
from keras_attn.text.corpus import text_batches
from keras_attn.text.tokenizer import NUM_SPECIAL_IDS, Tokenizer

# Unicode's White_Space characters, in a spelling that TensorFlow's and Python's expressions share.
WHITESPACE = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
LINE, LINE_NUMBER = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER


class LookupTokenizer(Tokenizer):
    """Cuts texts into units and looks each of them up; abstract.

    Args:
        vocabulary: The tokens in the order of their ids, the special ones left out; None leaves
            them to `adapt`.
        max_length, lowercase: As `Tokenizer`.

    Attributes:
        unit_dtype: What a unit is in the graph.
        unit_column: Where the unit is in a line of the vocabulary file.
        unknown_unit: What an id outside of the vocabulary is read as.
        token_kind: What a token is, for messages.
    """

    unit_dtype = tf.string
    unit_column = LINE
    unknown_unit: str | int = "\ufffd"
    token_kind = "strings, neither empty nor with whitespace"

    def __init__(self, vocabulary=None, max_length=512, lowercase=False, **kwargs):
        super().__init__(max_length, lowercase, **kwargs)
        if vocabulary is not None:
            self._fill_tokens(vocabulary)

    def adapt(self, dataset, vocabulary_size=None, verbose=1):
        """Learns the vocabulary, in place of the one there is.

        Args:
            dataset: A `tf.data.Dataset` of string scalars or of strings `[B]`, or an iterable of `str`.
            vocabulary_size: Number of ids at most, the special ones counted; None keeps every token.
                The most frequent tokens stay, those that are equally frequent in code point order.
            verbose: 1 for a progress bar, 0 for none.

        Raises:
            ValueError: If the dataset has no token, or `vocabulary_size` leaves room for none.
        """
        if vocabulary_size is not None:
            check_vocabulary_size(vocabulary_size)
        counts = collections.Counter()
        for texts in text_batches(dataset, verbose):
            counts.update(self._units(self._clean(texts)).flat_values.numpy().tolist())
        if not counts:
            raise ValueError("`dataset` must have at least one token. Received: none.")
        self._fill_tokens(self._choose({self._token(unit): count for unit, count in counts.items()}, vocabulary_size))

    @property
    def tokens(self):
        self._check_filled()
        with open(self._asset_path, "rb") as file:
            return [self._parse(line) for line in file.read().decode().split("\n")[:-1]]

    def _units(self, texts):
        """Returns the units of clean strings `[B]`, a ragged `[B, None]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `_units(texts)`.")

    def _token(self, unit):
        """Returns a unit as `str`."""
        return unit.decode()

    def _line(self, token):
        """Returns the line of the vocabulary file for a token."""
        return token

    def _parse(self, line):
        """Returns the token of a line."""
        return line

    def _is_token(self, token):
        """Whether a string may be in the vocabulary."""
        return token != "" and not re.search(WHITESPACE, token)

    def _choose(self, counts, vocabulary_size):
        """Returns the tokens to keep, in the order of their ids."""
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        return ranked if vocabulary_size is None else ranked[: vocabulary_size - NUM_SPECIAL_IDS]

    def _fill_tokens(self, vocabulary):
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

    def _open(self, path):
        unit, line = (self.unit_dtype, self.unit_column), (tf.int64, LINE_NUMBER)
        self._ids_of_units = lookup_table(path, unit, line, self.special_ids.unknown)
        self._units_of_ids = lookup_table(path, line, unit, self.unknown_unit)

    def _encode(self, texts):
        return self._ids_of_units.lookup(self._units(texts))


def lookup_table(path, key, value, default):
    """Returns a table from a file, whose path becomes an asset; key and value are a dtype and a column each."""
    lines = tf.lookup.TextFileInitializer(path, *key, *value, delimiter="\t", value_index_offset=NUM_SPECIAL_IDS)
    return tf.lookup.StaticHashTable(lines, default)


def has_surrogates(token):
    """Whether a string holds halves of surrogate pairs, which UTF-8 has no bytes for."""
    return any("\ud800" <= character <= "\udfff" for character in token)


def check_vocabulary_size(vocabulary_size):
    """Raises a `ValueError` unless there is room for a token behind the special ids."""
    must = f"be an integer above the {NUM_SPECIAL_IDS} special ids"
    check_number("vocabulary_size", vocabulary_size, int, must=must, above=NUM_SPECIAL_IDS)
