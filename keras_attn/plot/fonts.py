"""Fonts for tokens of any script in matplotlib."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypedDict

import numpy as np

from keras_attn.base.types import Tensor

MAX_CHARACTERS = 24  # characters of a token that are drawn
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
PLAIN_FONT: Mapping[str, Sequence[int | str]] = {
    "style": ["normal"],
    "variant": ["normal"],
    "stretch": ["normal"],
    "weight": [400, "normal", "regular"],
}

Tokens: TypeAlias = Sequence[str | bytes] | Tensor
"""Tokens as strings, or as the UTF-8 bytes that tokenizers return, in a list, an array or a tensor."""


class TextStyle(TypedDict):
    """Keyword arguments for matplotlib's texts."""

    fontfamily: list[str]
    parse_math: bool


class Script:
    """The drawable form of some texts, and the fonts for them.

    Args:
        texts: The texts: strings, or bytes in UTF-8.
        longest: Maximum number of characters of each text.

    Attributes:
        texts: The texts to draw: truncated, with U+FFFD for line breaks and for characters that no font has.
        style: Keyword arguments for matplotlib's texts, with the fonts of all texts.
    """

    def __init__(self, texts: Tokens, longest: int = MAX_CHARACTERS) -> None:
        strings = [truncated(text, longest) for text in as_strings(texts)]
        fonts = {character: font_of(character) for character in sorted(set("".join(strings)))}
        self.texts = ["".join(drawable(character, fonts[character]) for character in text) for text in strings]
        others = sorted({font for font in fonts.values() if font} - {default_font()})
        # A dollar sign in a token does not start a formula.
        self.style = TextStyle(fontfamily=[default_font(), *others], parse_math=False)


def as_strings(texts: Tokens) -> list[str]:
    """Returns texts as strings; texts may also be UTF-8 bytes, or tensors from a tokenizer."""
    flat = np.asarray(list(texts) if isinstance(texts, str) else texts, dtype=object).reshape(-1).tolist()
    return [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in flat]


def truncated(text: str, longest: int) -> str:
    """Returns at most `longest` characters, the last one an ellipsis if the text is longer."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def drawable(character: str, font: str | None) -> str:
    """Returns the character if a font has it; else an empty string for invisible characters, U+FFFD for others."""
    if font is not None:
        return character
    return "" if unicodedata.category(character) == "Cf" else REPLACEMENT


@functools.cache
def font_of(character: str) -> str | None:
    """Returns the name of the first font that has a character, or None, also for control characters."""
    if unicodedata.category(character) == "Cc":
        return None
    return next((name for name in font_files() if ord(character) in characters(name)), None)


@functools.cache
def characters(name: str) -> frozenset[int]:
    """Returns the code points that a font has."""
    from matplotlib import ft2font

    return frozenset(ft2font.FT2Font(font_files()[name]).get_charmap())


@functools.cache
def font_files() -> dict[str, str]:
    """Returns the files of the installed fonts by name, in the order of preference: the default, Noto's, others."""
    from matplotlib import font_manager

    files = {
        entry.name: entry.fname
        for entry in font_manager.fontManager.ttflist
        if all(getattr(entry, name) in values for name, values in PLAIN_FONT.items())
        and not entry.name.startswith("Last Resort")  # draws a box for every character
    }
    files[default_font()] = default_file()
    order = sorted(files, key=lambda name: (name != default_font(), not name.startswith("Noto Sans"), name))
    return {name: files[name] for name in order}


def default_font() -> str:
    """Returns the name of the default font of matplotlib's settings."""
    from matplotlib import ft2font

    return ft2font.FT2Font(default_file()).family_name


def default_file() -> str:
    """Returns the file of the default font."""
    from matplotlib import font_manager

    return font_manager.findfont(font_manager.FontProperties())
