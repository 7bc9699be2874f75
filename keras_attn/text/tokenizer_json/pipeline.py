"""All stages of a tokenizer.json, from strings to ids and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_attn.text.tokenizer_json.added_tokens import AddedToken, Splitter, added_tokens
from keras_attn.text.tokenizer_json.byte_level import CHARACTERS
from keras_attn.text.tokenizer_json.byte_pairs import BytePairs
from keras_attn.text.tokenizer_json.decoders import Decoder
from keras_attn.text.tokenizer_json.fields import Section, kind, read, refuse
from keras_attn.text.tokenizer_json.normalizers import normalizer
from keras_attn.text.tokenizer_json.patterns import WHITESPACE
from keras_attn.text.tokenizer_json.pieces import Model, ids_of_texts, offsets_of_texts
from keras_attn.text.tokenizer_json.pre_tokenizers import pre_tokenizer
from keras_attn.text.tokenizer_json.segments import Segments, from_texts
from keras_attn.text.tokenizer_json.template import template
from keras_attn.text.tokenizer_json.unigram import Unigram
from keras_attn.text.tokenizer_json.word_piece import WordPiece

MODELS: dict[str, Callable[[Section], Model]] = {"BPE": BytePairs, "Unigram": Unigram, "WordPiece": WordPiece}


class Pipeline(tf.Module):
    """The stages of a tokenizer.json.

    Args:
        content: The bytes of the file.

    Attributes:
        added: The added tokens.
        template: What stands around texts.
        vocabulary: The ids of the model by their tokens.
        tokens: The tokens in the order of their ids, normalized as `tokenizers` has them; "" where there is none.
        unknown: The id of unknown pieces, or None.
        padding: What the section `padding` says, or None.

    Raises:
        ValueError: If the file has a field or a value that is unknown.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        spec = parsed(content)
        self.added: list[AddedToken] = added_tokens(spec["added_tokens"])
        self._normalize = normalizer(spec["normalizer"])
        self._pre_tokenize = pre_tokenizer(spec["pre_tokenizer"])
        self._model = model(spec["model"])
        self.template = template(spec["post_processor"])
        self.unknown = self._model.unknown
        self.vocabulary = self._model.vocabulary
        self.padding: Section | None = spec["padding"]
        raw = [token for token in self.added if not token.normalized]
        late = [token for token in self.added if token.normalized]
        written = [self._normalized(token.content) for token in late]
        self._raw = Splitter(raw, [token.content for token in raw])
        self._late = Splitter(late, written) if late else None
        contents = {token.id: token.content for token in raw}
        contents |= {token.id: text for token, text in zip(late, written, strict=True)}
        self.tokens = tokens(self._model.vocabulary, contents)
        self._decoder = Decoder(spec["decoder"], self.tokens)
        self._texts = self._are_texts({*self._model.vocabulary.values(), *contents})
        self._spaces = spaces(self.tokens, self.added)
        signature = [tf.TensorSpec([None], tf.string)]
        self._compiled = tf.function(self.ids, signature, autograph=False)
        rows = tf.RaggedTensorSpec([None, None], tf.int64, 1)
        self._compiled_strings = tf.function(self.strings, [rows], autograph=False)
        self._compiled_with_offsets = tf.function(self.ids_with_offsets, signature, autograph=False)

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of strings `[B]`, valid UTF-8, without a template: a ragged int32 `[B, None]`."""
        if tf.executing_eagerly():
            return self._compiled(texts)
        words = self._words(texts)
        return ids_of_texts(words, self._model.pieces(words, offsets=False), tf.size(texts))

    def ids_with_offsets(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Returns ids as `ids` does, and where each starts and ends in its text, in code points."""
        if tf.executing_eagerly():
            return self._compiled_with_offsets(texts)
        words = self._words(texts)
        pieces = self._model.pieces(words, offsets=True)
        ids = ids_of_texts(words, pieces, tf.size(texts))
        starts, ends = offsets_of_texts(words, pieces, tf.size(texts))
        return ids, *self._trimmed(ids, starts, ends)

    def _trimmed(
        self, ids: tf.RaggedTensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Returns offsets without the spaces of tokens, where the template has it so."""
        if self.template.trimmed is None:
            return starts, ends
        leading, trailing, left, right = (tf.gather(tf.constant(each), ids.flat_values) for each in self._spaces)
        first, last = starts.flat_values, ends.flat_values
        leading += tf.where(left > 0, last - first - left, 0)  # spaces that an added token has taken
        trailing += tf.where(right > 0, last - first - right, 0)
        if self.template.trimmed:  # one space at the start may not be of the text
            rows = ids.value_rowids()
            place = tf.range(tf.size(rows, tf.int64)) - tf.gather(ids.row_splits, rows)
            added = tf.logical_and(tf.logical_or(tf.equal(place, 0), tf.equal(first, 0)), tf.equal(leading, 1))
            leading = tf.where(added, 0, leading)
        first = tf.minimum(first + leading, last)
        last = tf.where(last >= trailing, tf.maximum(last - trailing, first), last)
        return starts.with_flat_values(first), ends.with_flat_values(last)

    def strings(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the strings `[N]` of ragged ids `[N, None]`, without special tokens."""
        if tf.executing_eagerly():
            return self._compiled_strings(ids)
        flat = ids.flat_values
        inside = tf.logical_and(flat >= 0, flat < len(self.tokens))
        kept = tf.logical_and(inside, tf.gather(tf.constant(self._texts), tf.where(inside, flat, 0)))
        ids = tf.ragged.boolean_mask(ids, ids.with_flat_values(kept))
        return self._decoder.strings(ids)

    def num_open_ids(self, ids: Sequence[int]) -> int:
        """Returns how many ids at the end could have another text if more ids followed: those of bytes."""
        if self._decoder.changes_ends:
            return len(ids)
        is_byte, size = self._decoder.is_byte, 0
        if is_byte.any():
            for number in reversed(ids):
                if 0 <= number < len(self.tokens) and self._texts[number] and not is_byte[number]:
                    break
                size += 1
        return size

    def _words(self, texts: tf.Tensor) -> Segments:
        segments = self._normalize(self._raw.split(from_texts(texts), texts))
        segments = segments.without_empty() if self._late is None else self._late.split(segments)
        return self._model.prepare(self._pre_tokenize(segments))

    def _are_texts(self, known: set[int]) -> np.ndarray:
        """Returns of each id whether it is known and not special; as in `tokenizers`, the token is what counts."""
        special = {token.content for token in self.added if token.special}
        return np.array([number in known and token not in special for number, token in enumerate(self.tokens)])

    def _normalized(self, text: str) -> str:
        return self._normalize(from_texts(tf.constant([text]))).strings().numpy()[0].decode()


def parsed(content: bytes) -> Section:
    """Returns the sections of a file."""
    try:
        spec = json.loads(content)
    except ValueError as error:
        raise ValueError(f"`spec` must be a tokenizer.json. Received: {error}.") from error
    names = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model", "padding")
    return read(spec, "spec", version=None, truncation=None, **dict.fromkeys(names))


def model(section: Section) -> Model:
    """Returns the model of a file, or raises a `ValueError` that names what is unknown."""
    name = kind(section, "model")
    if name not in MODELS:
        refuse("model.type", name)
    return MODELS[name](section)


def tokens(vocabulary: dict[str, int], added: dict[int, str]) -> list[str]:
    """Returns the tokens in the order of their ids."""
    by_id = {number: token for token, number in vocabulary.items()} | added
    return [by_id.get(number, "") for number in range(max(by_id, default=-1) + 1)]


def spaces(tokens: list[str], added: list[AddedToken]) -> np.ndarray:
    """Returns by id the number of spaces at the start of tokens and at their end, and sizes of added tokens.

    The sizes are those of tokens that take the spaces to their left, and of those that take the ones to their right.
    """
    marks = "".join(map(chr, WHITESPACE)) + CHARACTERS[ord(" ")]
    found = np.zeros([4, len(tokens)], "int32")
    found[0] = [len(token) - len(token.lstrip(marks)) for token in tokens]
    found[1] = [len(token) - len(token.rstrip(marks)) for token in tokens]
    for token in added:
        if token.lstrip or token.rstrip:
            found[2 if token.lstrip else 3, token.id] = len(token.content)
    return found
