"""`WordPiece` takes the longest pieces."""

import pytest

from keras_attn.text import WordPiece

from .corpus import CORPUS, round_trip, strings

pytestmark = pytest.mark.tensorflow


def test_wordpiece_takes_the_longest_piece():
    tokenizer = WordPiece(["un", "##aff", "##able", "##a", ",", "日", "本", "[UNK]"])
    assert tokenizer.pieces(["unaffable", "una, unx", "日本", "un\tun\0un", "u" * 101, ""]).to_list() == [
        [4, 5, 6], [4, 7, 8, 3], [9, 10], [4, 4, 4], [3], [],
    ]  # fmt: skip
    assert round_trip(tokenizer, ["unaffable, unx 日本"]) == ["unaffable , \ufffd 日 本"]
    assert strings(tokenizer.detokenize([[5, 6], [3, 5]])) == ["affable", "\ufffdaff"]


def test_wordpiece_refuses_too_small_a_vocabulary():
    with pytest.raises(ValueError, match=r"`vocabulary_size` must be at least \d+ for the characters of `dataset`"):
        WordPiece().adapt(CORPUS, vocabulary_size=7, verbose=0)
