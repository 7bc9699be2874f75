"""`Words` splits texts at the whitespace of any script."""

import unicodedata

import pytest

from keras_attn.text import Words

from .corpus import SCRIPTS, round_trip

pytestmark = pytest.mark.tensorflow


def test_words_split_at_the_whitespace_of_any_script():
    tokenizer = Words(["ab", "\u0105\u00e0", "日本"])  # their bytes hold those of U+0085 and U+00A0
    spaces = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i))[0] == "Z" or chr(i) in "\t\n\v\f\r\x85"]
    assert len(spaces) == 25
    texts = [f"{space}ab{space}{space}\u0105\u00e0 日本{space}" for space in spaces]
    assert tokenizer.pieces(texts).to_list() == [[4, 5, 6]] * 25
    assert round_trip(tokenizer, texts) == ["ab \u0105\u00e0 日本"] * 25
    assert tokenizer.pieces(["ab\u200bab", "ab\0ab", " \n"]).to_list() == [[3], [3], []]


def test_words_of_any_unicode_come_back():
    words = sorted({*SCRIPTS, "a\0b", "\x1c", "\ufeff", "#", "a\\n"})
    tokenizer = Words(words)
    assert tokenizer.tokens == words
    assert round_trip(tokenizer, [" ".join(words)]) == [" ".join(words)]
    with pytest.raises(ValueError, match="`vocabulary` must be an iterable of tokens. Received: 'cat'"):
        Words("cat")


def test_very_long_words():
    tokenizer = Words(["x" * 10000, "y"])
    assert tokenizer.pieces(["y " + "x" * 10000, "z" * 10000]).to_list() == [[5, 4], [3]]
