"""The normalizer `Replace`: another text for a text, or for some of a few patterns."""

from __future__ import annotations

import tensorflow as tf

from keras_attn.text.tokenizer_json.code_points import Replacements
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, read, refuse
from keras_attn.text.tokenizer_json.finding import escaped, occurrences
from keras_attn.text.tokenizer_json.patterns import WHITESPACE
from keras_attn.text.tokenizer_json.segments import Segments, moved, spread
from keras_attn.text.tokenizer_json.stages import Stage

ANY_SPACE = "[" + "".join(f"\\x{{{code:x}}}" for code in WHITESPACE) + "]"
PATTERNS = {
    " {2,}": " {2,}",
    r"\n": "\n",
    r"\s+": f"{ANY_SPACE}+",
    r"\s{2,}|[\n\r\t]": f"{ANY_SPACE}{{2,}}|[\n\r\t]",
    r"\A +| +\z": r"\A +| +\z",
}
"""Patterns of tokenizer.json, and what each is in RE2."""


def replace(section: Section, path: str) -> Stage:
    """Another text for a text or a known pattern."""
    fields = read(section, path, pattern=REQUIRED, content=REQUIRED)
    pattern, content = fields["pattern"], fields["content"]
    given = pattern if isinstance(pattern, dict) else {}
    text, regex = given.get("String"), PATTERNS.get(given.get("Regex", ""))
    if isinstance(text, str) and len(text) == 1:
        table = Replacements({ord(text): content})
        return lambda segments: segments.mapped(table)
    if isinstance(text, str) and text:
        regex = escaped(text)
    if regex is None:
        refuse(f"{path}.pattern", pattern, f"be a text or one of the patterns {', '.join(PATTERNS)}")
    return lambda segments: replaced(segments, regex, content)


def replaced(segments: Segments, regex: str, content: str) -> Segments:
    """Returns segments in which a text replaces the matches of a regular expression.

    The new code points come from where the last one of the match comes from.
    """
    begins, matches = occurrences(segments, regex)
    last = tf.logical_and(matches, tf.concat([begins[1:], tf.ones_like(begins[:1])], 0))
    counts = tf.where(last, len(content), tf.cast(tf.logical_not(matches), tf.int32))
    source, place = spread(counts)
    is_new = tf.gather(last, source)
    text = tf.constant([ord(each) for each in content] or [0])
    return segments.replace(
        codes=tf.where(is_new, tf.gather(text, tf.where(is_new, place, 0)), tf.gather(segments.codes, source)),
        starts=tf.gather(segments.starts, source),
        ends=tf.gather(segments.ends, source),
        splits=moved(segments.splits, counts),
    )
