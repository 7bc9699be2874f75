"""`Characters` keeps any Unicode text as it is."""

import itertools
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn.text import Characters
from keras_attn.text.tokenizer import NUM_SPECIAL_IDS

from .corpus import SCRIPTS, round_trip

pytestmark = pytest.mark.tensorflow


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=23), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_unicode_comes_back(texts):
    tokenizer = Characters(sorted(set("".join(texts))) or "a", max_length=None)
    assert round_trip(tokenizer, texts) == texts
    assert [len(row) for row in tokenizer.pieces(texts).to_list()] == [len(text) for text in texts]


def test_code_points_of_every_plane():
    planes = range(0xD800), range(0xE000, 0x10000), range(0x10000, 0x110000, 11)
    everything = [chr(i) for i in itertools.chain(*planes)]
    tokenizer = Characters(everything, max_length=None)
    text = "".join(everything)
    assert round_trip(tokenizer, [text]) == [text]
    np.testing.assert_array_equal(tokenizer.pieces([text])[0], np.arange(len(text)) + NUM_SPECIAL_IDS)


def test_scripts_and_what_is_not_seen():
    tokenizer = Characters(sorted(set("".join(SCRIPTS))))
    assert round_trip(tokenizer, SCRIPTS) == SCRIPTS
    assert round_trip(tokenizer, ["\0\n\t\r\v\x7f\x85"]) == ["\ufffd" * 7]
    control = Characters("\0\n\t\r\v\x7f\x85\u2028\ufeff\\'")
    assert round_trip(control, ["\t\0\r\n\\'", "\0", "\u2028\ufeff\x85\v\x7f"]) == [
        "\t\0\r\n\\'",
        "\0",
        "\u2028\ufeff\x85\v\x7f",
    ]
    assert control.tokens == list("\0\n\t\r\v\x7f\x85\u2028\ufeff\\'")
    assert "10\t\\n\n" in pathlib.Path(control._asset_path).read_text("utf-8")


def test_characters_by_hand():
    tokenizer = Characters("ab\ufffd", max_length=4)
    assert tokenizer.tokenize(["ba", "", "xyz", "abab", b"\xff"]).numpy().tolist() == [
        [5, 4, 2, 0], [2, 0, 0, 0], [3, 3, 3, 2], [4, 5, 4, 2], [6, 2, 0, 0],
    ]  # fmt: skip
