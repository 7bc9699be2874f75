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


def as_bytes(segments: Segments) -> Segments:
    """Returns segments with the characters of the UTF-8 bytes of each code point."""
    codes = segments.codes
    sizes = utf8_sizes(codes)
    source, place = spread(sizes)
    code, size = tf.gather(codes, source), tf.gather(sizes, source)
    bits = tf.bitwise.right_shift(code, 6 * (size - 1 - place)) & 0x3F
    lead = tf.gather(tf.constant([0, 0, 0xC0, 0xE0, 0xF0]), size)
    byte = tf.where(place > 0, 0x80 | bits, tf.where(size > 1, lead | bits, code))
    characters = np.array([ord(each) for each in CHARACTERS], "int32")
    is_token = code >= TOKEN
    mapped = tf.gather(tf.constant(characters), tf.where(is_token, 0, byte))
    return segments.replace(
        codes=tf.where(is_token, TOKEN, mapped),
        starts=tf.gather(segments.starts, source),
        ends=tf.gather(segments.ends, source),
        splits=moved(segments.splits, sizes),
    )


def utf8_sizes(codes: tf.Tensor) -> tf.Tensor:
    """Returns the number of bytes of each code point in UTF-8; 1 for an added token."""
    sizes = 1 + sum(tf.cast(codes >= least, tf.int32) for least in (0x80, 0x800, 0x10000))
    return tf.where(codes >= TOKEN, 1, sizes)


def surface(token: str) -> bytes:
    """Returns the bytes of a token; those of its UTF-8 if it has other characters."""
    if all(character in BYTES for character in token):
        return bytes(BYTES[character] for character in token)
    return token.encode()
