"""The normalizers of a tokenizer.json."""

from __future__ import annotations

import base64
import functools
import unicodedata
from collections.abc import Callable
from typing import Literal, TypeAlias

import tensorflow as tf

from keras_attn.text.tokenizer_json import unicode_ranges
from keras_attn.text.tokenizer_json.canonical_order import reorder
from keras_attn.text.tokenizer_json.charsmap import Charsmap, rules
from keras_attn.text.tokenizer_json.code_points import Members, Replacements, code_points
from keras_attn.text.tokenizer_json.composing import HANGUL_SYLLABLES, Composer
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, read, refuse
from keras_attn.text.tokenizer_json.patterns import WHITESPACE
from keras_attn.text.tokenizer_json.replacing import replace
from keras_attn.text.tokenizer_json.segments import Segments
from keras_attn.text.tokenizer_json.stages import Stage, in_turn, stage

Form: TypeAlias = Literal["NFC", "NFD", "NFKC", "NFKD"]

# Upper case letters that younger Python versions know: the first, the last, and the distance to lower case.
LATER_UPPER_CASE = (
    (0x1C89, 0x1C89, 1), (0xA7C0, 0xA7C0, 1), (0x2C2F, 0x2C2F, 48), (0xA7D0, 0xA7D0, 1), (0xA7D6, 0xA7D6, 1),
    (0xA7D8, 0xA7D8, 1), (0xA7CB, 0xA7CB, 0x264 - 0xA7CB), (0xA7CC, 0xA7CC, 1), (0xA7CE, 0xA7CE, 1),
    (0xA7D2, 0xA7D2, 1), (0xA7D4, 0xA7D4, 1), (0xA7DA, 0xA7DA, 1), (0xA7DC, 0xA7DC, 0x19B - 0xA7DC),
    (0x10570, 0x1057A, 39), (0x1057C, 0x1058A, 39), (0x1058C, 0x10592, 39), (0x10594, 0x10595, 39),
    (0x10D50, 0x10D65, 32), (0x16EA0, 0x16EB8, 27),
)  # fmt: skip
LAST_LETTER_WITH_CASE = 0x1E943


def normalizer(section: Section | None, path: str = "normalizer") -> Stage:
    """Returns the function of a section, or raises a `ValueError` that names what is unknown."""
    return stage(section, path, KINDS)


def sequence(section: Section, path: str) -> Stage:
    """Applies several normalizers."""
    parts = read(section, path, normalizers=REQUIRED)["normalizers"]
    return in_turn(parts, f"{path}.normalizers", normalizer)


def bert(section: Section, path: str) -> Stage:
    """Cleans texts, separates Chinese characters, strips accents, and converts to lower case."""
    options = read(section, path, clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    lower = lower_case() if options["lowercase"] else {}
    strips = options["strip_accents"]
    texts = bert_texts(options["clean_text"], options["handle_chinese_chars"])
    if not (options["lowercase"] if strips is None else strips):
        table = Replacements(lower | texts)
        return lambda segments: segments.mapped(table)
    decomposed = decompositions(False)
    marked = decomposed | {
        code: text.replace(chr(code), decomposed.get(code, chr(code))) for code, text in texts.items()
    }
    first, second = Replacements(marked), Replacements(lower | dict.fromkeys(accents(), ""))
    return lambda segments: reorder(segments.mapped(first)).mapped(second)


def bert_texts(clean: bool, chinese: bool) -> dict[int, str]:
    """Returns the texts that replace code points before accents and case."""
    texts: dict[int, str] = {}
    if chinese:
        texts |= {code: f" {chr(code)} " for code in code_points(unicode_ranges.CHINESE)}
    if clean:
        texts |= dict.fromkeys(code_points(unicode_ranges.BERT_SPACES), " ")
        texts |= dict.fromkeys(code_points(unicode_ranges.BERT_REMOVED), "")
    return texts


def accents() -> frozenset[int]:
    """Returns what `strip_accents` removes."""
    return code_points(unicode_ranges.BERT_ACCENTS)


@functools.lru_cache(None)
def lower_case() -> dict[int, str]:
    """Returns the lower case of each code point that has one, by itself: a sigma does not look at its neighbours."""
    texts = {code: chr(code).lower() for code in range(LAST_LETTER_WITH_CASE)}
    for first, last, distance in LATER_UPPER_CASE:
        texts |= {code: chr(code + distance) for code in range(first, last + 1)}
    return {code: text for code, text in texts.items() if text != chr(code)}


@functools.lru_cache(None)
def decompositions(compatible: bool) -> dict[int, str]:
    """Returns the full decomposition, canonical or compatible, of each code point that has one."""
    codes = [*code_points(unicode_ranges.DECOMPOSED), *HANGUL_SYLLABLES]
    texts = {code: unicodedata.normalize("NFKD" if compatible else "NFD", chr(code)) for code in codes}
    return {code: text for code, text in texts.items() if text != chr(code)}


def form(name: Form) -> Callable[[Section, str], Stage]:
    """Returns the normalizer of one of Unicode's normal forms, by its name."""
    compatible, composed = "K" in name, name.endswith("C")

    def build(section: Section, path: str) -> Stage:
        read(section, path)
        table = Replacements(decompositions(compatible))
        if not composed:
            return lambda segments: reorder(segments.mapped(table))
        composer = Composer()
        changed = {code for code in decompositions(compatible) if unicodedata.normalize(name, chr(code)) != chr(code)}
        changing = Members({*changed, *code_points(unicode_ranges.REORDERED), *composer.seconds})

        def apply(segments: Segments) -> Segments:
            needed = tf.reduce_any(changing.lookup(segments.codes))
            return segments.changed(needed, lambda each: composer.compose(reorder(each.mapped(table))))

        return apply

    return build


def lowercase(section: Section, path: str) -> Stage:
    """Converts to lower case."""
    read(section, path)
    table = Replacements(lower_case())
    return lambda segments: segments.mapped(table)


def strip_accents(section: Section, path: str) -> Stage:
    """Removes combining marks."""
    read(section, path)
    table = Replacements(dict.fromkeys(code_points(unicode_ranges.MARKS), ""))
    return lambda segments: segments.mapped(table)


def precompiled(section: Section, path: str) -> Stage:
    """The rules of a SentencePiece model."""
    charsmap = read(section, path, precompiled_charsmap=REQUIRED)["precompiled_charsmap"]
    if not charsmap:
        return lambda segments: segments
    return Charsmap(rules(base64.b64decode(charsmap))).apply


def prepend(section: Section, path: str) -> Stage:
    """One more code point in front."""
    text = read(section, path, prepend=REQUIRED)["prepend"]
    if len(text) != 1:
        refuse(f"{path}.prepend", text, "be one character")
    return lambda segments: segments.prepend(ord(text), tf.ones_like(segments.ids, tf.bool))


def strip(section: Section, path: str) -> Stage:
    """Removes spaces on the left, on the right or both."""
    sides = read(section, path, strip_left=True, strip_right=True)
    spaces = Members(WHITESPACE)

    def apply(segments: Segments) -> Segments:
        inner = tf.cast(tf.logical_not(spaces.lookup(segments.codes)), tf.int32)
        rows = segments.rows
        total = tf.math.unsorted_segment_sum(inner, rows, tf.size(segments.texts))
        before = tf.cumsum(inner) - tf.gather(tf.cumsum(total, exclusive=True), rows)  # up to here, in the segment
        kept = tf.ones_like(inner, tf.bool)
        if sides["strip_left"]:
            kept = tf.logical_and(kept, before > 0)
        if sides["strip_right"]:
            kept = tf.logical_and(kept, tf.gather(total, rows) - before + inner > 0)
        return segments.keep(kept)

    return apply


KINDS: dict[str, Callable[[Section, str], Stage]] = {
    "BertNormalizer": bert,
    "Lowercase": lowercase,
    "NFC": form("NFC"),
    "NFD": form("NFD"),
    "NFKC": form("NFKC"),
    "NFKD": form("NFKD"),
    "Precompiled": precompiled,
    "Prepend": prepend,
    "Replace": replace,
    "Sequence": sequence,
    "Strip": strip,
    "StripAccents": strip_accents,
}
