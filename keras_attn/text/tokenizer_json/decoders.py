"""The decoders of a tokenizer.json, as texts of each id: one at the start of a row, one elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from keras_attn.text.tokenizer_json.byte_level import surface
from keras_attn.text.tokenizer_json.fields import Section, kind, metaspace_fields, read, refuse

Surface: TypeAlias = Callable[[str, bool], bytes]
"""The text of a token, at the start of a row or elsewhere."""

CLEANUP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def decoder(section: Section | None, path: str = "decoder") -> Surface:
    """Returns the function of a section, or raises a `ValueError` that names what is unknown."""
    if section is None:
        return lambda token, first: token.encode() if first else b" " + token.encode()
    name = kind(section, path)
    if name not in KINDS:
        refuse(f"{path}.type", name)
    return KINDS[name](section, path)


def word_piece(section: Section, path: str) -> Surface:
    """Words with spaces between them, less those in front of punctuation."""
    fields = read(section, path, prefix="##", cleanup=True)
    prefix = fields["prefix"]

    def surface(token: str, first: bool) -> bytes:
        if not first:
            token = token.replace(prefix, "", 1) if token.startswith(prefix) else " " + token
        for old, new in CLEANUP if fields["cleanup"] else ():
            token = token.replace(old, new)
        return token.encode()

    return surface


def byte_level(section: Section, path: str) -> Surface:
    """The bytes that the characters of tokens stand for."""
    read(section, path, add_prefix_space=True, trim_offsets=True, use_regex=True)
    return lambda token, first: surface(token)


def metaspace(section: Section, path: str) -> Surface:
    """Words with spaces where the vocabulary has another character, but not at the start."""
    code, scheme, _ = metaspace_fields(section, path)
    return lambda token, first: token.replace(chr(code), "" if first and scheme != "never" else " ").encode()


KINDS: dict[str, Callable[[Section, str], Surface]] = {
    "ByteLevel": byte_level,
    "Metaspace": metaspace,
    "WordPiece": word_piece,
}
