"""Tokenizers that the tests of this room share."""

import pytest


@pytest.fixture(scope="session")
def trained():
    """One tokenizer of each class, adapted to the corpus."""
    from .corpus import CLASSES, CORPUS

    tokenizers = {}
    for kind in CLASSES:
        tokenizers[kind] = kind()
        tokenizers[kind].adapt(CORPUS, vocabulary_size=67, verbose=0)
    return tokenizers
