"""The pre-tokenizers of a tokenizer.json: they cut segments into words."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_attn.text.tokenizer_json import patterns, unicode_ranges
from keras_attn.text.tokenizer_json.added_tokens import characters_of_words
from keras_attn.text.tokenizer_json.byte_level import as_bytes
from keras_attn.text.tokenizer_json.code_points import Members, code_points
from keras_attn.text.tokenizer_json.delimiters import checked_behavior, cut_where
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, metaspace_fields, read, refuse
from keras_attn.text.tokenizer_json.finding import escaped, occurrences
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

    def apply(segments: Segments) -> Segments:
        is_mark = marks.lookup(segments.codes)
        begins = tf.logical_or(is_mark, tf.roll(is_mark, 1, 0))
        return cut_where(segments, spaces.lookup(segments.codes), "Removed", begins)

    return apply


def whitespace_split(section: Section, path: str) -> Stage:
    """Cuts at whitespace, which it removes."""
    read(section, path)
    spaces = Members(WHITESPACE)
    return lambda segments: cut_where(segments, spaces.lookup(segments.codes), "Removed")


def byte_level(section: Section, path: str) -> Stage:
    """Cuts by the pattern of GPT-2, and writes each byte as a character."""
    options = read(section, path, add_prefix_space=True, trim_offsets=True, use_regex=True)

    def apply(segments: Segments) -> Segments:
        if options["add_prefix_space"]:
            segments = segments.prepend(ord(" "), tf.logical_not(begins_with(segments, ord(" "))))
        return as_bytes(patterns.split(segments, patterns.GPT2) if options["use_regex"] else segments)

    return apply


def split(section: Section, path: str) -> Stage:
    """Cuts by one of the known patterns, or where a text is."""
    fields = read(section, path, pattern=REQUIRED, behavior=REQUIRED, invert=False)
    given = fields["pattern"] if isinstance(fields["pattern"], dict) else {}
    pattern, text = given.get("Regex"), given.get("String")
    behavior = checked_behavior(fields["behavior"], path)
    if isinstance(text, str) and text:
        regex, inverted = escaped(text), bool(fields["invert"])

        def apply(segments: Segments) -> Segments:
            begins, matches = occurrences(segments, regex)
            return cut_where(segments, tf.not_equal(matches, inverted), behavior, begins)

        return apply
    if pattern not in patterns.ON_CLASSES:
        refuse(f"{path}.pattern", fields["pattern"], "be one of the known patterns, or a text")
    if behavior != "Isolated":
        refuse(f"{path}.behavior", behavior, "be 'Isolated'")
    if fields["invert"]:
        refuse(f"{path}.invert", fields["invert"], "be false")
    return lambda segments: patterns.split(segments, pattern)


def digits(section: Section, path: str) -> Stage:
    """Cuts around numbers, or around each digit."""
    behavior = "Isolated" if read(section, path, individual_digits=False)["individual_digits"] else "Contiguous"
    members = Members(code_points(unicode_ranges.NUMBERS) | code_points(unicode_ranges.LATER_NUMBERS))
    return lambda segments: cut_where(segments, members.lookup(segments.codes), behavior)


def punctuation(section: Section, path: str) -> Stage:
    """Cuts around punctuation."""
    behavior = checked_behavior(read(section, path, behavior="Isolated")["behavior"], path)
    marks = Members(code_points(unicode_ranges.BERT_PUNCTUATION))
    return lambda segments: cut_where(segments, marks.lookup(segments.codes), behavior)


def whitespace(section: Section, path: str) -> Stage:
    """Cuts at whitespace, which it removes, and between words and what is none."""
    read(section, path)
    words, spaces = Members(characters_of_words()), Members(WHITESPACE)

    def apply(segments: Segments) -> Segments:
        in_word = words.lookup(segments.codes)
        begins = tf.not_equal(in_word, tf.roll(in_word, 1, 0))
        return cut_where(segments, spaces.lookup(segments.codes), "Removed", begins)

    return apply


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


KINDS: dict[str, Callable[[Section, str], Stage]] = {
    "BertPreTokenizer": bert,
    "ByteLevel": byte_level,
    "Digits": digits,
    "Metaspace": metaspace,
    "Punctuation": punctuation,
    "Sequence": sequence,
    "Split": split,
    "Whitespace": whitespace,
    "WhitespaceSplit": whitespace_split,
}
