"""The characters that stand for bytes in the vocabularies of byte-level models."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_attn.text.tokenizer_json.code_points import TOKEN
from keras_attn.text.tokenizer_json.segments import Segments, moved, spread

PRINTED = (*range(33, 127), *range(161, 173), *range(174, 256))
"""The bytes that stand for themselves in Latin-1; the others follow each other from U+0100 on."""

CHARACTERS = tuple(
    chr(byte) if byte in PRINTED else chr(256 + sum(other not in PRINTED for other in range(byte)))
    for byte in range(256)
)
BYTES = {character: byte for byte, character in enumerate(CHARACTERS)}


CODES = np.array([ord(each) for each in CHARACTERS], "int32")


def as_bytes(segments: Segments, characters: np.ndarray = CODES, chosen: tf.Tensor | None = None) -> Segments:
    """Returns segments with the characters of the UTF-8 bytes of each code point.

    Args:
        segments: The segments.
        characters: The code points of the characters of the 256 bytes.
        chosen: Which code points to change, `[C]`; all by default.
    """
    chosen = segments.codes < TOKEN if chosen is None else chosen
    sizes, source, byte = in_utf8(segments.codes, chosen)
    changed = tf.gather(chosen, source)
    mapped = tf.gather(tf.constant(characters), tf.where(changed, byte, 0))
    return segments.replace(
        codes=tf.where(changed, mapped, tf.gather(segments.codes, source)),
        starts=tf.gather(segments.starts, source),
        ends=tf.gather(segments.ends, source),
        splits=moved(segments.splits, sizes),
    )


def in_utf8(codes: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the bytes of those code points `[C]` that are `chosen`, the others once.

    Returns:
        The number of bytes of each code point `[C]`; and of each byte its code point and its value, both `[P]`.
    """
    sizes = tf.where(chosen, utf8_sizes(codes), 1)
    source, place = spread(sizes)
    code, size = tf.gather(codes, source), tf.gather(sizes, source)
    bits = tf.bitwise.right_shift(code, 6 * (size - 1 - place)) & 0x3F
    lead = tf.gather(tf.constant([0, 0, 0xC0, 0xE0, 0xF0]), size)
    byte = tf.where(place > 0, 0x80 | bits, tf.where(size > 1, lead | bits, code))
    return sizes, source, tf.minimum(byte, 0xFF)  # an added token has no byte


def utf8_sizes(codes: tf.Tensor) -> tf.Tensor:
    """Returns the number of bytes of each code point in UTF-8; 1 for an added token."""
    sizes = 1 + sum(tf.cast(codes >= least, tf.int32) for least in (0x80, 0x800, 0x10000))
    return tf.where(codes >= TOKEN, 1, sizes)


def surface(token: str) -> bytes:
    """Returns the bytes of a token; those of its UTF-8 if it has other characters."""
    if all(character in BYTES for character in token):
        return bytes(BYTES[character] for character in token)
    return token.encode()
