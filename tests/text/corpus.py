"""A corpus, texts, and functions for the tests of all tokenizers; these are skipped without the optional packages."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="tokenizers are TensorFlow graphs")
pytest.importorskip("tensorflow_text", reason="SentencePiece and WordPiece use TensorFlow Text")
pytest.importorskip("sentencepiece", reason="`SentencePiece.adapt` trains with it")

from keras_attn.text import Characters, SentencePiece, WordPiece, Words

PADDING_ID, START_ID, END_ID, UNKNOWN_ID = range(4)

CORPUS = ["the cat sat on the mat", "the dog sat on the log", "cats and dogs , mats and logs", "Ünïcode straße"]
CLASSES = [Characters, Words, SentencePiece, WordPiece]
TEXTS = ["the cat sat", "", "dogs and logs on the mat", "the zebra"]
SCRIPTS = [
    "naïve",
    "Ελληνικά",
    "русский",
    "עברית",
    "العربية",
    "हिन्दी",
    "ไทย",
    "日本語",
    "한국어",
    "𝔘𝔫𝔦",
    "👩‍👧‍👦🇨🇭",
    "e\u0301\u0327",
]

each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


def strings(tensor):
    """Nested lists of `str` of a string tensor."""
    return np.vectorize(bytes.decode, otypes=[object])(tensor.numpy()).tolist()


def round_trip(tokenizer, texts):
    return strings(tokenizer.detokenize(tokenizer.tokenize(texts)))
