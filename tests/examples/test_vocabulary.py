"""Tokens and ids of the examples."""

import numpy as np
from vocabulary import END_ID, UNKNOWN_ID, Vocabulary, pad, teacher_forcing


def test_ids_and_back(tmp_path):
    vocabulary = Vocabulary.of(["cab", "bad"])
    assert vocabulary.tokens == ["a", "b", "c", "d"]
    assert len(vocabulary) == 8
    assert vocabulary.ids("dab?") == [7, 4, 5, UNKNOWN_ID, END_ID]
    assert vocabulary.sequence([1, 7, 4, UNKNOWN_ID, 5, END_ID, 6, 0]) == ["d", "a", "b"]
    assert vocabulary.sequence([6, 6]) == ["c", "c"]
    vocabulary.save(tmp_path / "tokens.json")
    assert Vocabulary.load(tmp_path / "tokens.json").ids("dab") == vocabulary.ids("dab")


def test_tokens_may_be_words():
    vocabulary = Vocabulary.of([["AH", "B"], ["B", "ÉŌ"]])
    assert vocabulary.sequence(vocabulary.ids(["ÉŌ", "AH"])) == ["ÉŌ", "AH"]


def test_padding_and_teacher_forcing():
    target = pad([[5, 6, END_ID], [7, END_ID]])
    np.testing.assert_array_equal(target, [[5, 6, 2], [7, 2, 0]])
    inputs, labels = teacher_forcing(np.ones((2, 4), "int32"), target)
    np.testing.assert_array_equal(inputs["target"], [[1, 5, 6], [1, 7, 2]])
    np.testing.assert_array_equal(labels, target)
