"""Vocabularies that are looked up: which tokens are kept, and which vocabularies are refused."""

import pytest

from keras_attn.text import Characters, WordPiece, Words

from .corpus import CORPUS, each_class

pytestmark = pytest.mark.tensorflow


def test_frequent_tokens_stay():
    tokenizer = Characters()
    tokenizer.adapt(["ccbbbaax", "zyx"], verbose=0)
    assert tokenizer.tokens == list("bacxyz")
    tokenizer.adapt(["ccbbbaax", "zyx"], vocabulary_size=8, verbose=0)
    assert tokenizer.tokens == list("bacx") and tokenizer.vocabulary_size == 8
    words = Words()
    words.adapt(["é z z", "a \U0001f600 \uffff"], vocabulary_size=9, verbose=0)
    assert words.tokens == ["z", "a", "é", "\uffff", "\U0001f600"]


@pytest.mark.parametrize("kind", [Characters, Words, WordPiece], ids=lambda kind: kind.__name__)
def test_vocabularies_are_checked(kind):
    with pytest.raises(ValueError, match=r"`vocabulary` must have each token once\. Received twice: 'b'"):
        kind(["a", "b", "c", "b"])
    for token in (
        "",
        7,
        b"a",
        "\ud800",
        "ab" if kind is Characters else "a b",
        "e\u0301" if kind is Characters else "a\u3000b",
    ):
        with pytest.raises(ValueError, match="`vocabulary` must be made of .*Received the token"):
            kind(["x", token])
    with pytest.raises(ValueError, match="`vocabulary` must have at least one token"):
        kind([])
    with pytest.raises(ValueError, match="`vocabulary` must be an iterable of tokens. Received: 7"):
        kind(7)


@each_class
def test_vocabulary_sizes_are_checked(kind):
    for size in (4, 8.5) if kind in (Characters, Words) else (4, 8.5, None):
        with pytest.raises(ValueError, match="`vocabulary_size` must be an integer above the 4 special ids"):
            kind().adapt(CORPUS, vocabulary_size=size, verbose=0)
