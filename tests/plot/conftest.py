"""Attention scores that the tests of this room share."""

import pytest


@pytest.fixture
def scores(rng):
    """Scores of two heads, `[2, T, S]`."""
    scores = rng.uniform(size=(2, 3, 5)).astype("float32")
    return scores / scores.sum(axis=-1, keepdims=True)
