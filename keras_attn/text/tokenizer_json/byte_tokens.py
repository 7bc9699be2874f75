"""The tokens `<0x00>` to `<0xFF>`, which stand for the bytes of characters that a vocabulary has not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from keras_attn.text.tokenizer_json.fields import refuse

NEVER_IN_UTF8 = (0xC0, 0xC1, *range(0xF5, 0x100))


def byte_ids(vocabulary: Mapping[str, int]) -> list[int] | None:
    """Returns the ids of the tokens of all bytes, or None if the vocabulary has none of them.

    Raises:
        ValueError: If it has only some of the bytes of UTF-8.
    """
    ids = [vocabulary.get(f"<0x{byte:02X}>", -1) for byte in range(256)]
    missing = [f"<0x{byte:02X}>" for byte in range(256) if ids[byte] < 0 and byte not in NEVER_IN_UTF8]
    if len(missing) == 256 - len(NEVER_IN_UTF8):
        return None
    if missing:
        refuse("model.vocab", missing, "have a token for each byte, or for none, if `byte_fallback` is true")
    return ids


def byte_of(token: str) -> int | None:
    """Returns the byte of a token, or None; as `tokenizers` reads it, small letters and a sign may be in it."""
    if len(token.encode()) != 6 or not (token.startswith("<0x") and token.endswith(">")):
        return None
    digits = token[3:5]
    digits = digits[1:] if digits[0] == "+" else digits
    return int(digits, 16) if digits.isascii() and digits.isalnum() and is_hexadecimal(digits) else None


def is_hexadecimal(digits: str) -> bool:
    """Returns whether a text has only hexadecimal digits."""
    return all(digit in "0123456789abcdefABCDEF" for digit in digits)


def unused_characters(tokens: Iterable[str]) -> Iterator[str]:
    """Yields characters for private use that are in no token."""
    known = set(itertools.chain.from_iterable(tokens))
    return (chr(code) for code in range(0xF0000, 0x110000) if chr(code) not in known)
