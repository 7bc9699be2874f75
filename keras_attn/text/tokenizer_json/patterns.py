r"""The known patterns that split texts, on classes of code points, so that each has exactly the original's sets.

A pattern does not read the text but a string with one ASCII character for the class of each code point. In the end
of a run of spaces that something follows, `\s+(?!\S)` leaves one space over: it gets a class of its own, because
RE2 has no look-ahead.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from keras_attn.text.optional import text_module
from keras_attn.text.tokenizer_json import unicode_ranges
from keras_attn.text.tokenizer_json.code_points import Numbers, code_points
from keras_attn.text.tokenizer_json.segments import Segments

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

WHITESPACE = (*range(9, 14), 32, 133, 160, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
"""Unicode's White_Space characters."""

LETTER, NUMBER, SPACE, BLANK, LINE, OTHER, LAST_SPACE, LAST_BLANK = "A0 \t\n._-"
CONTRACTED = "strevmld"
LETTERS = f"[{LETTER}{CONTRACTED}]"
MARKS = f"[{OTHER}']"
ENDINGS = "'(?:s|t|re|ve|m|ll|d)"
SPACES = f"[{SPACE}{BLANK}]+|[{LAST_SPACE}{LAST_BLANK}]"
OF_LLAMA3 = (
    f"{ENDINGS}|[^{LINE}{NUMBER}{LETTER}{CONTRACTED}]?{LETTERS}+|{NUMBER}{{1,3}}|"
    f"[{SPACE}{LAST_SPACE}]?{MARKS}+{LINE}*|[{SPACE}{BLANK}{LINE}]*{LINE}+|{SPACES}"
)

ON_CLASSES = {
    GPT2: f"{ENDINGS}|[{SPACE}{LAST_SPACE}]?(?:{LETTERS}+|{NUMBER}+|{MARKS}+)|{SPACES}",
    LLAMA3: OF_LLAMA3,
    QWEN: OF_LLAMA3.replace("{1,3}", ""),
}
"""Patterns of tokenizer.json, and what each is on classes."""


@functools.lru_cache(None)
def classes(any_case: bool) -> Numbers:
    """Returns the class of each code point.

    Args:
        any_case: Whether capitals contract too, and line ends are a class of their own.
    """
    found = dict.fromkeys(code_points(unicode_ranges.LETTERS), ord(LETTER))
    found |= dict.fromkeys(code_points(unicode_ranges.NUMBERS), ord(NUMBER))
    found |= dict.fromkeys(WHITESPACE, ord(BLANK))
    found |= {ord(each): ord(each) for each in (*CONTRACTED, "'", SPACE)}
    if any_case:
        found |= {ord(each.upper()): ord(each) for each in CONTRACTED}
        found |= {0x17F: ord("s"), ord("\r"): ord(LINE), ord("\n"): ord(LINE)}
    return Numbers(found, default=ord(OTHER))


def split(segments: Segments, pattern: str) -> Segments:
    """Returns the parts of segments that a known pattern matches."""
    found = classes(pattern != GPT2).lookup(segments.codes)
    is_space = tf.logical_or(tf.equal(found, ord(SPACE)), tf.equal(found, ord(BLANK)))
    any_space = tf.logical_or(is_space, tf.equal(found, ord(LINE)))
    first, last = segments.is_first, segments.is_last
    before = tf.logical_and(tf.roll(any_space, 1, 0), tf.logical_not(first))
    behind = tf.logical_not(tf.logical_or(tf.roll(any_space, -1, 0), last))
    left_over = tf.logical_and(is_space, tf.logical_and(before, behind))
    found = tf.where(left_over, tf.where(tf.equal(found, ord(SPACE)), ord(LAST_SPACE), ord(LAST_BLANK)), found)
    strings = segments.replace(codes=found).strings()
    regex = f"({ON_CLASSES[pattern]})"
    _, starts, _ = text_module("tensorflow_text").regex_split_with_offsets(strings, regex, regex)
    rows = tf.cast(starts.value_rowids(), tf.int32)
    begins = tf.gather(segments.splits, rows) + tf.cast(starts.flat_values, tf.int32)
    return segments.cut(tf.scatter_nd(begins[:, None], tf.ones_like(begins), [tf.size(found)]) > 0)
