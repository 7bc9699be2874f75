"""How pre-tokenizers cut texts where something matches: the behaviors of `tokenizers`."""

from __future__ import annotations

import tensorflow as tf

from keras_attn.text.tokenizer_json.code_points import TOKEN
from keras_attn.text.tokenizer_json.fields import refuse
from keras_attn.text.tokenizer_json.segments import Segments

BEHAVIORS = ("Contiguous", "Isolated", "MergedWithNext", "MergedWithPrevious", "Removed")


def checked_behavior(name: str, path: str) -> str:
    """Returns a behavior, or raises a `ValueError` that names the field."""
    if name not in BEHAVIORS:
        refuse(f"{path}.behavior", name, f"be one of {', '.join(BEHAVIORS)}")
    return name


def cut_where(segments: Segments, matches: tf.Tensor, behavior: str, begins: tf.Tensor | None = None) -> Segments:
    """Returns segments cut around matches.

    Args:
        segments: The segments.
        matches: Whether each code point is in a match, `[C]`.
        behavior: One of `BEHAVIORS`: what becomes of matches.
        begins: Whether each code point begins a match or a part between matches, `[C]`; None if each match is one
            code point.
    """
    first = segments.is_first
    matches = tf.logical_and(matches, segments.codes < TOKEN)
    before = tf.roll(matches, 1, 0)  # at the start of a segment there is a cut anyway
    if begins is None:
        begins = tf.logical_or(matches, before)
    if behavior == "Contiguous":
        begins = tf.logical_and(begins, tf.not_equal(matches, before))
    elif behavior == "MergedWithPrevious":
        begins = tf.logical_and(begins, tf.logical_or(before, tf.logical_not(matches)))
    elif behavior == "MergedWithNext":
        begins = tf.logical_and(begins, tf.logical_or(matches, tf.logical_not(before)))
    begins = tf.logical_or(begins, first)
    if behavior != "Removed":
        return segments.cut(begins)
    kept = tf.logical_not(matches)
    begins = tf.logical_or(begins, tf.logical_and(before, kept))
    return segments.keep(kept).cut(tf.boolean_mask(begins, kept))
