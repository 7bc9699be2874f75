"""Added tokens, which are split out of texts before anything else reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import tensorflow as tf

from keras_attn.text.lookup import WHITESPACE
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, read, refuse
from keras_attn.text.tokenizer_json.segments import Segments, collapse

SEPARATOR = b"\xff"  # never a byte of UTF-8


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token of the section `added_tokens`, with the names of that section."""

    id: int
    content: str
    special: bool
    lstrip: bool
    rstrip: bool
    normalized: bool


def added_tokens(sections: Sequence[Section] | None, path: str = "added_tokens") -> list[AddedToken]:
    """Returns the added tokens of a file, or raises a `ValueError` that names what is unknown."""
    tokens = []
    for index, section in enumerate(sections or []):
        here = f"{path}[{index}]"
        fields = read(
            section,
            here,
            id=REQUIRED,
            content=REQUIRED,
            special=False,
            single_word=False,
            lstrip=False,
            rstrip=False,
            normalized=True,
        )
        if fields.pop("single_word"):
            refuse(f"{here}.single_word", True, "be false")
        tokens.append(AddedToken(**fields))
    if any(token.rstrip for token in tokens):
        for index, token in enumerate(tokens):
            if token.content[:1].isspace():  # it could begin in the spaces that the other has taken
                refuse(f"{path}[{index}].content", token.content, "not begin with a space, because one has `rstrip`")
    return tokens


class Splitter(tf.Module):
    """Splits segments at added tokens, from left to right, the longest first.

    Args:
        tokens: The tokens.
        contents: How each is written, normalized where the segments are.
    """

    def __init__(self, tokens: Sequence[AddedToken], contents: Sequence[str]) -> None:
        super().__init__()
        written = {content: token for content, token in zip(contents, tokens, strict=True) if content}
        self._pattern = "(" + "|".join(escaped(each) for each in sorted(written, key=len, reverse=True)) + ")"
        self._ids = table(written, [token.id for token in written.values()], -1)
        sides = [2 * token.lstrip + token.rstrip for token in written.values()]
        self._sides = table(written, sides, 0) if any(sides) else None
        self._active = bool(written)

    def split(self, segments: Segments, strings: tf.Tensor | None = None) -> Segments:
        """Returns smaller segments; `strings` are those of `segments` if they are at hand."""
        if not self._active:
            return collapse(segments)
        strings = segments.strings() if strings is None else strings
        marked = tf.strings.regex_replace(strings, self._pattern, SEPARATOR + rb"\1" + SEPARATOR)
        ragged = tf.strings.split(marked, SEPARATOR)  # plain parts and tokens take turns, plain ones first and last
        parts, rows = ragged.flat_values, tf.cast(ragged.value_rowids(), tf.int32)
        splits = tf.cast(ragged.row_splits, tf.int32)
        is_token = (tf.range(tf.size(parts)) - tf.gather(splits, rows)) % 2 > 0
        ids = tf.where(is_token, self._ids.lookup(parts), tf.gather(segments.ids, rows))
        sizes = tf.strings.length(parts, "UTF8_CHAR")
        if self._sides is not None:
            sizes = with_spaces(parts, sizes, tf.where(is_token, self._sides.lookup(parts), 0))
        sizes = tf.where(tf.gather(segments.ids, rows) >= 0, 1, sizes)
        splits = tf.concat([[0], tf.cumsum(sizes)], 0)
        return collapse(segments.replace(splits=splits, texts=tf.gather(segments.texts, rows), ids=ids))


def with_spaces(parts: tf.Tensor, sizes: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """Returns the sizes of parts after tokens with `sides` 1 or 3 have taken the spaces to the right, 2 or 3 left."""
    leading, trailing = (
        sizes - tf.strings.length(tf.strings.regex_replace(parts, pattern, ""), "UTF8_CHAR")
        for pattern in (f"^{WHITESPACE}+", f"{WHITESPACE}+$")
    )
    to_left = tf.where(before(sides) % 2 > 0, leading, 0)
    to_right = tf.minimum(tf.where(after(sides) > 1, trailing, 0), sizes - to_left)
    return sizes - to_left - to_right + after(to_left) + before(to_right)


def before(values: tf.Tensor) -> tf.Tensor:
    """Returns for each value the one before it, 0 for the first."""
    return tf.concat([[0], values], 0)[:-1]


def after(values: tf.Tensor) -> tf.Tensor:
    """Returns for each value the one behind it, 0 for the last."""
    return tf.concat([values, [0]], 0)[1:]


def table(keys: Iterable[str], values: list[int], default: int) -> tf.lookup.StaticHashTable:
    """Returns a table from strings to numbers."""
    pairs = tf.lookup.KeyValueTensorInitializer(list(keys) or [""], values or [default], tf.string, tf.int32)
    return tf.lookup.StaticHashTable(pairs, default)


def escaped(text: str) -> str:
    """Returns a regular expression for a text."""
    return "".join(f"\\{each}" if each.isascii() and not each.isalnum() else each for each in text)
