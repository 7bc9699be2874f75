"""Added tokens, which are split out of texts before anything else reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import tensorflow as tf

from keras_attn.text.lookup import WHITESPACE
from keras_attn.text.tokenizer_json import unicode_ranges
from keras_attn.text.tokenizer_json.code_points import Members, code_points
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, read, refuse
from keras_attn.text.tokenizer_json.finding import escaped, parts_of
from keras_attn.text.tokenizer_json.segments import Segments, collapse


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token of the section `added_tokens`, with the names of that section."""

    id: int
    content: str
    special: bool
    single_word: bool
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
        self._pattern = "|".join(escaped(each) for each in sorted(written, key=len, reverse=True))
        self._ids = table(written, [token.id for token in written.values()], -1)
        sides = [2 * token.lstrip + token.rstrip for token in written.values()]
        self._sides = table(written, sides, 0) if any(sides) else None
        alone = [token.single_word for token in written.values()]
        self._alone = SingleWords(table(written, list(map(int, alone)), 0)) if any(alone) else None
        self._active = bool(written)

    def split(self, segments: Segments, strings: tf.Tensor | None = None) -> Segments:
        """Returns smaller segments; `strings` are those of `segments` if they are at hand."""
        if not self._active:
            return collapse(segments)
        parts, rows, sizes, is_token = parts_of(segments, self._pattern, strings)
        if self._alone is not None:
            is_token = tf.logical_and(is_token, tf.logical_not(self._alone.in_words(segments, parts, rows, sizes)))
            parts, rows, sizes, is_token = joined(parts, rows, sizes, is_token)
        ids = tf.where(is_token, self._ids.lookup(parts), tf.gather(segments.ids, rows))
        if self._sides is not None:
            sizes = with_spaces(parts, sizes, tf.where(is_token, self._sides.lookup(parts), 0))
        splits = tf.concat([[0], tf.cumsum(sizes)], 0)
        return collapse(segments.replace(splits=splits, texts=tf.gather(segments.texts, rows), ids=ids))


class SingleWords(tf.Module):
    """Finds tokens that must be single words, and are not.

    Args:
        table: 1 for the tokens that must be.
    """

    def __init__(self, table: tf.lookup.StaticHashTable) -> None:
        super().__init__()
        self._table = table
        self._members = Members(characters_of_words())

    def in_words(self, segments: Segments, parts: tf.Tensor, rows: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        """Returns whether parts `[P]` are such tokens and touch a character of a word."""
        ends = tf.cumsum(sizes)
        starts = ends - sizes
        is_word = tf.concat([self._members.lookup(segments.codes), [False]], 0)
        left = tf.logical_and(starts > tf.gather(segments.splits, rows), tf.gather(is_word, tf.maximum(starts - 1, 0)))
        right = tf.logical_and(ends < tf.gather(segments.splits, rows + 1), tf.gather(is_word, ends))
        return tf.logical_and(self._table.lookup(parts) > 0, tf.logical_or(left, right))


def characters_of_words() -> frozenset[int]:
    """Returns the code points of words."""
    sets = unicode_ranges.LETTERS, unicode_ranges.MARKS, unicode_ranges.OTHERS_IN_WORDS
    return frozenset().union(*map(code_points, sets))


def joined(parts: tf.Tensor, rows: tf.Tensor, sizes: tf.Tensor, is_token: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns parts after neighbours in a segment that are no tokens have become one."""
    plain = tf.logical_not(is_token)
    more = tf.logical_and(tf.logical_and(plain, tf.roll(plain, 1, 0)), tf.equal(rows, tf.roll(rows, 1, 0)))
    first = tf.logical_or(tf.logical_not(more), tf.range(tf.size(rows)) < 1)
    groups = tf.cumsum(tf.cast(first, tf.int32)) - 1
    strings = tf.RaggedTensor.from_value_rowids(parts, groups, validate=False)
    kept = tf.boolean_mask(rows, first), tf.math.segment_sum(sizes, groups), tf.boolean_mask(is_token, first)
    return tf.strings.reduce_join(strings, axis=-1), *kept


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
