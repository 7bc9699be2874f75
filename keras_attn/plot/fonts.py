"""Tokens of any script as matplotlib can draw them: with the fonts that have their characters."""

import functools
import unicodedata

import numpy as np

LONGEST = 24  # characters of a token are shown
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
PLAIN = {"style": ["normal"], "variant": ["normal"], "stretch": ["normal"], "weight": [400, "normal", "regular"]}


class Script:
    """What it takes to draw some texts.

    Args:
        texts: The texts: strings, or bytes in UTF-8.
        longest: How many characters are drawn of each.

    Attributes:
        texts: What is drawn: line breaks and what no installed font has are U+FFFD, long texts are cut.
        style: Keyword arguments for matplotlib's texts: a list of fonts for all of the texts.
    """

    def __init__(self, texts, longest=LONGEST):
        texts = [shortened(text, longest) for text in as_strings(texts)]
        fonts = {character: font_of(character) for character in sorted(set("".join(texts)))}
        self.texts = ["".join(drawable(character, fonts[character]) for character in text) for text in texts]
        others = sorted({font for font in fonts.values() if font} - {default_font()})
        # Dollar signs in tokens begin no formula.
        self.style = {"fontfamily": [default_font(), *others], "parse_math": False}


def as_strings(texts):
    """Returns texts as strings, also those that a tokenizer gave back: bytes in UTF-8, in a tensor or not."""
    texts = np.asarray(list(texts) if isinstance(texts, str) else texts, dtype=object).reshape(-1).tolist()
    return [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in texts]


def shortened(text, longest):
    """Returns at most `longest` characters, an ellipsis in place of what is left out."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def drawable(character, font):
    """Returns the character if a font has it, nothing for invisible marks that none has, else U+FFFD."""
    if font is not None:
        return character
    return "" if unicodedata.category(character) == "Cf" else REPLACEMENT


@functools.cache
def font_of(character):
    """Returns the name of the first font that has a character, or None; line breaks and the like have none."""
    if unicodedata.category(character) == "Cc":
        return None
    return next((name for name in font_files() if ord(character) in characters(name)), None)


@functools.cache
def characters(name):
    """The code points that a font has."""
    from matplotlib import ft2font

    return frozenset(ft2font.FT2Font(font_files()[name]).get_charmap())


@functools.cache
def font_files():
    """The files of the installed fonts by name, in the order in which they are asked: the default, Noto's, others."""
    from matplotlib import font_manager

    files = {
        entry.name: entry.fname
        for entry in font_manager.fontManager.ttflist
        if all(getattr(entry, name) in values for name, values in PLAIN.items())
        and not entry.name.startswith("Last Resort")  # has boxes for all that there is
    }
    files[default_font()] = default_file()
    order = sorted(files, key=lambda name: (name != default_font(), not name.startswith("Noto Sans"), name))
    return {name: files[name] for name in order}


def default_font():
    """The name of the font that matplotlib's settings mean."""
    from matplotlib import ft2font

    return ft2font.FT2Font(default_file()).family_name


def default_file():
    """The file of that font."""
    from matplotlib import font_manager

    return font_manager.findfont(font_manager.FontProperties())
