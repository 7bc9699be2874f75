"""BLEU: a value by hand, several references, and what is refused."""

import math
import sys

import pytest

from keras_attn.training import bleu

TEXT = "the quick brown fox jumps over the lazy dog"


@pytest.fixture(autouse=True)
def needs_sacrebleu():
    pytest.importorskip("sacrebleu")


def test_by_hand():
    # 6, 4, 3 and 2 of 7, 6, 5 and 4 n-grams are found, and 7 words stand for 8.
    found = bleu(["a b c d e x g"], ["a b c d e f g h"])
    wanted = 100 * math.exp(1 - 8 / 7) * (6 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** 0.25
    assert found.score == pytest.approx(wanted)
    assert "tok:13a" in found.signature and "nrefs:1" in found.signature


def test_the_score_is_that_of_the_corpus():
    assert bleu([TEXT, TEXT], [TEXT, TEXT]).score == pytest.approx(100)
    assert bleu([TEXT, "no"], [TEXT, "yes yes"]).score < 100


def test_any_of_several_references_will_do():
    assert bleu([TEXT, TEXT], [[TEXT, "other words"], [TEXT]]).score == pytest.approx(100)
    assert "nrefs:var" in bleu([TEXT, TEXT], [[TEXT, "other words"], TEXT]).signature


def test_options():
    assert bleu([TEXT.upper()], [TEXT]).score == 0
    assert bleu([TEXT.upper()], [TEXT], lowercase=True).score == pytest.approx(100)
    assert "tok:char" in bleu([TEXT], [TEXT], tokenize="char").signature


def test_bad_arguments_are_named():
    with pytest.raises(
        ValueError, match="`references` must have one entry for each of `hypotheses`, at least one. Received: 2 and 1"
    ):
        bleu(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="Received: 0 and 0"):
        bleu([], [])
    with pytest.raises(ValueError, match="`references` must hold a text for each hypothesis. Received: none for 1"):
        bleu(["a", "b"], ["a", []])
    with pytest.raises(ValueError, match="`hypotheses` must be a list of texts. Received: hypotheses='a text'"):
        bleu("a text", ["b"])


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(ImportError, match=r'pip install "keras-attn\[training\]"'):
        bleu(["a"], ["a"])


def test_only_strings_are_texts():
    for hypotheses, references in (([b"a"], ["a"]), (["a"], [None]), (["a"], [["a", 1]])):
        with pytest.raises(ValueError, match="`hypotheses` and `references` must be strings. Received: "):
            bleu(hypotheses, references)
