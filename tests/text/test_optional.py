"""Errors of missing packages say how to install them."""

import sys

import pytest

from keras_attn.text import SentencePiece, WordPiece

pytestmark = pytest.mark.tensorflow


def test_missing_packages_are_named(monkeypatch):
    for name, use in (
        ("sentencepiece", lambda: SentencePiece().adapt(["a"], verbose=0)),
        ("tensorflow_text", lambda: WordPiece(["a"])),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=rf'`{name}.*pip install "keras-attn\[text\]"'):
            use()
