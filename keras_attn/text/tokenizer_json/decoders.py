"""The decoders of a tokenizer.json: texts of each id, how bytes are joined, and what is changed in the whole text."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from keras_attn.text.tokenizer_json.byte_level import surface
from keras_attn.text.tokenizer_json.byte_tokens import byte_of
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, kind, metaspace_fields, read, refuse
from keras_attn.text.tokenizer_json.finding import escaped

Surface: TypeAlias = Callable[[str, bool], str]
"""The text of a token, at the start of a row or elsewhere."""
Rewrite: TypeAlias = Callable[[tf.Tensor], tf.Tensor]
"""Other strings for strings `[N]`."""

CLEANUP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
REPLACEMENT = "\ufffd"


@dataclasses.dataclass(frozen=True)
class Steps:
    """What a decoder does, in this order.

    Attributes:
        surfaces: Change the text of each token.
        byte_level: Whether the characters of tokens stand for bytes.
        byte_fallback: Whether some tokens are bytes.
        rewrites: Change the joined text; None as long as texts are not joined.
        changes_ends: Whether they change more than spaces at its ends.
    """

    surfaces: tuple[Surface, ...] = ()
    byte_level: bool = False
    byte_fallback: bool = False
    rewrites: tuple[Rewrite, ...] | None = None
    changes_ends: bool = False

    def text(self, token: str, first: bool) -> str:
        """Returns the text of a token before bytes are looked at."""
        return functools.reduce(lambda text, surface: surface(text, first), self.surfaces, token)


class Decoder(tf.Module):
    """The texts of ids.

    Args:
        section: The section `decoder` of a tokenizer.json.
        tokens: The tokens in the order of their ids.

    Attributes:
        is_byte: Whether each id is that of a byte.
        changes_ends: Whether the text of some ids depends on the ids behind them.
    """

    def __init__(self, section: Section | None, tokens: Sequence[str]) -> None:
        super().__init__()
        steps = decoder(section)
        self._rewrites = steps.rewrites or ()
        self.changes_ends = steps.changes_ends
        texts = [[steps.text(token, first) for token in tokens] for first in (True, False)]
        numbers = [byte_of(text) if steps.byte_fallback else None for text in texts[0]]
        self.is_byte = np.array([number is not None for number in numbers])
        written = [
            [
                surface(text) if steps.byte_level else text.encode() if number is None else bytes([number])
                for text, number in zip(row, numbers, strict=True)
            ]
            for row in texts
        ]
        self._at_start, self._elsewhere = (tf.constant(np.array(row, object)) for row in written)

    def strings(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the strings `[N]` of ragged ids `[N, None]`, all of which have a token."""
        rows, flat = ids.value_rowids(), ids.flat_values
        first = tf.equal(tf.range(tf.size(rows, tf.int64)), tf.gather(ids.row_splits, rows))
        texts = tf.where(first, tf.gather(self._at_start, flat), tf.gather(self._elsewhere, flat))
        if self.is_byte.any():
            is_byte = tf.gather(tf.constant(self.is_byte), flat)
            texts = tf.where(wrong_bytes(texts, is_byte, first), REPLACEMENT, texts)
        joined = tf.strings.reduce_join(ids.with_flat_values(texts), axis=-1)
        joined = tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8", errors="replace")
        return functools.reduce(lambda strings, rewrite: rewrite(strings), self._rewrites, joined)


def wrong_bytes(texts: tf.Tensor, is_byte: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """Returns which bytes `[P]` are in a run of bytes that is not valid UTF-8 as a whole.

    Args:
        texts: Texts of tokens, `[P]`.
        is_byte: Whether each is a byte.
        first: Whether each is the first of a row.
    """
    follows = tf.logical_and(tf.logical_and(is_byte, tf.roll(is_byte, 1, 0)), tf.logical_not(first))
    runs = tf.cumsum(tf.cast(tf.logical_not(follows), tf.int32)) - 1
    parts = tf.RaggedTensor.from_value_rowids(tf.where(is_byte, texts, ""), runs, validate=False)
    joined = tf.strings.reduce_join(parts, axis=-1)
    valid = tf.equal(tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8", errors="ignore"), joined)
    return tf.logical_and(is_byte, tf.logical_not(tf.gather(valid, runs)))


def decoder(section: Section | None, path: str = "decoder", steps: Steps | None = None) -> Steps:
    """Returns `steps` and those of a section, or raises a `ValueError` that names what is unknown."""
    steps = Steps() if steps is None else steps
    if section is None:
        return Steps((lambda token, first: token if first else " " + token,))
    name = kind(section, path)
    if name not in KINDS:
        refuse(f"{path}.type", name)
    return KINDS[name](section, path, steps)


def with_surface(steps: Steps, path: str, added: Surface) -> Steps:
    """Returns steps with one more change of the text of each token."""
    if steps.byte_level or steps.byte_fallback or steps.rewrites is not None:
        refuse(path, "after bytes or `Fuse`", "come before `ByteLevel`, `ByteFallback` and `Fuse`")
    return dataclasses.replace(steps, surfaces=(*steps.surfaces, added))


def sequence(section: Section, path: str, steps: Steps) -> Steps:
    """Several decoders."""
    for index, part in enumerate(read(section, path, decoders=REQUIRED)["decoders"]):
        steps = decoder(part, f"{path}.decoders[{index}]", steps)
    return steps


def word_piece(section: Section, path: str, steps: Steps) -> Steps:
    """Words with spaces between them, less those in front of punctuation."""
    fields = read(section, path, prefix="##", cleanup=True)
    prefix = fields["prefix"]

    def surface(token: str, first: bool) -> str:
        if not first:
            token = token.replace(prefix, "", 1) if token.startswith(prefix) else " " + token
        for old, new in CLEANUP if fields["cleanup"] else ():
            token = token.replace(old, new)
        return token

    return with_surface(steps, path, surface)


def byte_level(section: Section, path: str, steps: Steps) -> Steps:
    """The bytes that the characters of tokens stand for."""
    read(section, path, add_prefix_space=True, trim_offsets=True, use_regex=True)
    if steps.byte_level or steps.byte_fallback or steps.rewrites is not None:
        refuse(path, "after bytes or `Fuse`", "come before `ByteFallback` and `Fuse`")
    return dataclasses.replace(steps, byte_level=True, rewrites=())


def metaspace(section: Section, path: str, steps: Steps) -> Steps:
    """Words with spaces where the vocabulary has another character, but not at the start."""
    code, scheme, _ = metaspace_fields(section, path)
    return with_surface(
        steps, path, lambda token, first: token.replace(chr(code), "" if first and scheme != "never" else " ")
    )


def byte_fallback(section: Section, path: str, steps: Steps) -> Steps:
    """Bytes from tokens such as `<0x0A>`."""
    read(section, path)
    if steps.byte_level or steps.byte_fallback or steps.rewrites is not None:
        refuse(path, "after bytes or `Fuse`", "come before `ByteLevel` and `Fuse`")
    return dataclasses.replace(steps, byte_fallback=True)


def fuse(section: Section, path: str, steps: Steps) -> Steps:
    """One text from all tokens."""
    read(section, path)
    return dataclasses.replace(steps, rewrites=steps.rewrites or ())


def replace(section: Section, path: str, steps: Steps) -> Steps:
    """Another text for a text, in each token or in the joined text."""
    fields = read(section, path, pattern=REQUIRED, content=REQUIRED)
    pattern, content = fields["pattern"], fields["content"]
    text = pattern.get("String") if isinstance(pattern, dict) else None
    if not isinstance(text, str) or not text:
        refuse(f"{path}.pattern", pattern, "be a text")
    if steps.rewrites is None:
        return with_surface(steps, path, lambda token, first: token.replace(text, content))
    regex, new = escaped(text), content.replace("\\", r"\\")
    return rewritten(steps, lambda strings: tf.strings.regex_replace(strings, regex, new), len(text) > 1)


def strip(section: Section, path: str, steps: Steps) -> Steps:
    """Removes some of a character from both ends of each token, or of the joined text."""
    fields = read(section, path, content=REQUIRED, start=0, stop=0)
    character, start, stop = fields["content"], fields["start"], fields["stop"]
    if steps.rewrites is None:
        return with_surface(steps, path, lambda token, first: stripped(token, character, start, stop))
    one = escaped(character)
    left, right = f"^{one}{{0,{start}}}", f"{one}{{0,{stop}}}$"

    def apply(strings: tf.Tensor) -> tf.Tensor:
        strings = tf.strings.regex_replace(strings, left, "", replace_global=False) if start else strings
        return tf.strings.regex_replace(strings, right, "", replace_global=False) if stop else strings

    return rewritten(steps, apply, stop > 0 and not character.isspace())


def rewritten(steps: Steps, rewrite: Rewrite, changes_ends: bool) -> Steps:
    """Returns steps with one more change of the joined text."""
    rewrites = (*(steps.rewrites or ()), rewrite)
    return dataclasses.replace(steps, rewrites=rewrites, changes_ends=steps.changes_ends or changes_ends)


def stripped(token: str, character: str, start: int, stop: int) -> str:
    """Returns a token without some of a character at its ends."""
    left = min(len(token) - len(token.lstrip(character)), start)
    right = min(len(token) - len(token.rstrip(character)), stop)
    return token[left : max(len(token) - right, left)]


KINDS: dict[str, Callable[[Section, str, Steps], Steps]] = {
    "ByteFallback": byte_fallback,
    "ByteLevel": byte_level,
    "Fuse": fuse,
    "Metaspace": metaspace,
    "Replace": replace,
    "Sequence": sequence,
    "Strip": strip,
    "WordPiece": word_piece,
}
