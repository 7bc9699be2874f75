"""The pre-tokenizers of a tokenizer.json: they cut segments into words."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_attn.text.tokenizer_json import patterns, unicode_ranges
from keras_attn.text.tokenizer_json.byte_level import as_bytes
from keras_attn.text.tokenizer_json.code_points import Members, code_points
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, metaspace_fields, read, refuse
from keras_attn.text.tokenizer_json.patterns import WHITESPACE
from keras_attn.text.tokenizer_json.segments import Segments
from keras_attn.text.tokenizer_json.stages import Stage, in_turn, stage


def pre_tokenizer(section: Section | None, path: str = "pre_tokenizer") -> Stage:
    """Returns the function of a section, or raises a `ValueError` that names what is unknown."""
    return stage(section, path, KINDS)


def sequence(section: Section, path: str) -> Stage:
    """Applies several pre-tokenizers."""
    parts = read(section, path, pretokenizers=REQUIRED)["pretokenizers"]
    return in_turn(parts, f"{path}.pretokenizers", pre_tokenizer)


def bert(section: Section, path: str) -> Stage:
    """Cuts at whitespace, which it removes, and around punctuation."""
    read(section, path)
    spaces, marks = Members(WHITESPACE), Members(code_points(unicode_ranges.BERT_PUNCTUATION))
    return lambda segments: cut_at(segments, spaces.lookup(segments.codes), marks.lookup(segments.codes))


def whitespace_split(section: Section, path: str) -> Stage:
    """Cuts at whitespace, which it removes."""
    read(section, path)
    spaces = Members(WHITESPACE)
    return lambda segments: cut_at(segments, spaces.lookup(segments.codes), tf.zeros_like(segments.codes, tf.bool))


def byte_level(section: Section, path: str) -> Stage:
    """Cuts by the pattern of GPT-2, and writes each byte as a character."""
    options = read(section, path, add_prefix_space=True, trim_offsets=True, use_regex=True)

    def apply(segments: Segments) -> Segments:
        if options["add_prefix_space"]:
            segments = segments.prepend(ord(" "), tf.logical_not(begins_with(segments, ord(" "))))
        return as_bytes(patterns.split(segments, patterns.GPT2) if options["use_regex"] else segments)

    return apply


def split(section: Section, path: str) -> Stage:
    """Cuts by one of the known patterns."""
    fields = read(section, path, pattern=REQUIRED, behavior=REQUIRED, invert=False)
    pattern = fields["pattern"].get("Regex") if isinstance(fields["pattern"], dict) else None
    if pattern not in patterns.ON_CLASSES:
        refuse(f"{path}.pattern", fields["pattern"], "be one of the known patterns")
    if fields["behavior"] != "Isolated":
        refuse(f"{path}.behavior", fields["behavior"], "be 'Isolated'")
    if fields["invert"]:
        refuse(f"{path}.invert", fields["invert"], "be false")
    return lambda segments: patterns.split(segments, pattern)


def metaspace(section: Section, path: str) -> Stage:
    """Writes spaces as a character of their own, one more in front, and cuts before each."""
    code, scheme, cuts = metaspace_fields(section, path)

    def apply(segments: Segments) -> Segments:
        segments = segments.replace(codes=tf.where(tf.equal(segments.codes, ord(" ")), code, segments.codes))
        if scheme != "never":
            chosen = tf.logical_not(begins_with(segments, code))
            if scheme == "first":
                chosen = tf.logical_and(chosen, tf.equal(tf.gather(segments.starts, segments.splits[:-1]), 0))
            segments = segments.prepend(code, chosen)
        return segments.cut(tf.equal(segments.codes, code)) if cuts else segments

    return apply


def begins_with(segments: Segments, code: int) -> tf.Tensor:
    """Returns whether each segment `[R]` begins with a code point; none is empty."""
    return tf.equal(tf.gather(segments.codes, segments.splits[:-1]), code)


def cut_at(segments: Segments, removed: tf.Tensor, isolated: tf.Tensor) -> Segments:
    """Returns segments without the code points `removed` `[C]`, cut there and around those `isolated`."""
    border = tf.logical_or(removed, isolated)
    first = tf.logical_or(isolated, tf.roll(border, 1, 0))  # at the start of a segment there is a cut anyway
    first = tf.logical_or(first, segments.is_first)
    kept = tf.logical_not(removed)
    return segments.keep(kept).cut(tf.boolean_mask(first, kept))


KINDS: dict[str, Callable[[Section, str], Stage]] = {
    "BertPreTokenizer": bert,
    "ByteLevel": byte_level,
    "Metaspace": metaspace,
    "Sequence": sequence,
    "Split": split,
    "WhitespaceSplit": whitespace_split,
}
