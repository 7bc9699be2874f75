"""The pre-tokenizers of a tokenizer.json: they cut segments into words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from keras_attn.text.tokenizer_json import unicode_ranges
from keras_attn.text.tokenizer_json.code_points import Members, code_points
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, kind, read, refuse
from keras_attn.text.tokenizer_json.segments import Segments

PreTokenizer: TypeAlias = Callable[[Segments], Segments]

WHITESPACE = (*range(9, 14), 32, 133, 160, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
"""Unicode's White_Space characters."""


def pre_tokenizer(section: Section | None, path: str = "pre_tokenizer") -> PreTokenizer:
    """Returns the function of a section, or raises a `ValueError` that names what is unknown."""
    if section is None:
        return lambda segments: segments
    name = kind(section, path)
    if name not in KINDS:
        refuse(f"{path}.type", name)
    return KINDS[name](section, path)


def sequence(section: Section, path: str) -> PreTokenizer:
    """Applies several pre-tokenizers."""
    parts = read(section, path, pretokenizers=REQUIRED)["pretokenizers"]
    steps = [pre_tokenizer(part, f"{path}.pretokenizers[{index}]") for index, part in enumerate(parts)]
    return lambda segments: functools.reduce(lambda done, step: step(done), steps, segments)


def bert(section: Section, path: str) -> PreTokenizer:
    """Cuts at whitespace, which it removes, and around punctuation."""
    read(section, path)
    spaces, marks = Members(WHITESPACE), Members(code_points(unicode_ranges.BERT_PUNCTUATION))
    return lambda segments: cut_at(segments, spaces.lookup(segments.codes), marks.lookup(segments.codes))


def whitespace_split(section: Section, path: str) -> PreTokenizer:
    """Cuts at whitespace, which it removes."""
    read(section, path)
    spaces = Members(WHITESPACE)
    return lambda segments: cut_at(segments, spaces.lookup(segments.codes), tf.zeros_like(segments.codes, tf.bool))


def cut_at(segments: Segments, removed: tf.Tensor, isolated: tf.Tensor) -> Segments:
    """Returns segments without the code points `removed` `[C]`, cut there and around those `isolated`."""
    border = tf.logical_or(removed, isolated)
    first = tf.logical_or(isolated, tf.roll(border, 1, 0))  # at the start of a segment there is a cut anyway
    first = tf.logical_or(first, segments.is_first)
    kept = tf.logical_not(removed)
    return segments.keep(kept).cut(tf.boolean_mask(first, kept))


KINDS: dict[str, Callable[[Section, str], PreTokenizer]] = {
    "BertPreTokenizer": bert,
    "Sequence": sequence,
    "WhitespaceSplit": whitespace_split,
}
