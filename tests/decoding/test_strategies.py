"""Greedy and sampling: the distribution, the cuts, seeds, and what bad numbers get."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import decoding
from tests.decoding.test_beam import END, Chain, log_softmax

PROBABILITIES = np.array([0.02, 0.08, 0.1, 0.2, 0.25, 0.35])  # of the ids from 2 on


def draws(strategy, number=4000):
    """How often each token from 2 on is the first one of a text; padding and start, the likeliest of all, never are."""
    logits = np.broadcast_to(np.log([0.6, 0.7, *PROBABILITIES]), (1, 1, 8, 8))
    model = Chain(np.repeat(logits, number, axis=0))
    tokens = ops.convert_to_numpy(decoding.generate(model, np.zeros((number, 1)), strategy, max_length=1).tokens)
    counts = np.bincount(tokens[:, 0, 0], minlength=8)
    np.testing.assert_array_equal(counts[:2], 0)
    return counts[2:]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({}, PROBABILITIES),
        ({"temperature": 0.5}, PROBABILITIES**2),
        ({"temperature": 3.0}, PROBABILITIES ** (1 / 3)),
        ({"top_k": 2}, PROBABILITIES * [0, 0, 0, 0, 1, 1]),
        ({"top_k": 100}, PROBABILITIES),
        ({"top_p": 0.5}, PROBABILITIES * [0, 0, 0, 0, 1, 1]),
        ({"top_p": 0.35}, PROBABILITIES * [0, 0, 0, 0, 0, 1]),
        ({"top_p": 0.79}, PROBABILITIES * [0, 0, 0, 1, 1, 1]),
        ({"top_p": 1e-6}, PROBABILITIES * [0, 0, 0, 0, 0, 1]),
        ({"min_p": 0.5}, PROBABILITIES * [0, 0, 0, 1, 1, 1]),
        ({"top_k": 4, "top_p": 0.8, "min_p": 0.6}, PROBABILITIES * [0, 0, 0, 0, 1, 1]),
    ],
    ids=str,
)
def test_frequencies_agree_with_the_distribution(arguments, wanted):
    """Chi-square over 4,000 draws with a fixed seed: below the 99.9% quantile of five degrees of freedom."""
    counts, wanted = draws(decoding.Sample(**arguments, seed=5)), 4000 * wanted / wanted.sum()
    np.testing.assert_array_equal(counts[wanted == 0], 0)
    possible = wanted > 0
    assert np.sum((counts[possible] - wanted[possible]) ** 2 / wanted[possible]) < 20.5


def test_positions_and_rows_are_drawn_independently():
    """Pairs of neighbours, along the text and across rows, fall as often as chance has it."""
    model = Chain(np.zeros((2000, 2, 8, 8)))
    tokens = decoding.generate(model, np.zeros((2000, 1)), decoding.Sample(seed=1), max_length=2, end_id=7).tokens
    tokens = ops.convert_to_numpy(tokens)[:, 0]
    for one, two in ((tokens[:, 0], tokens[:, 1]), (tokens[:-1, 0], tokens[1:, 0])):
        kept = (one != 7) & (two != 7) & (two != 0)  # 0 follows an end
        counts = np.histogram2d(one[kept], two[kept], bins=(range(2, 8), range(2, 8)))[0]
        wanted = counts.sum() / 25
        assert np.sum((counts - wanted) ** 2 / wanted) < 52.6  # 24 degrees of freedom, 99.9%


def test_the_same_seed_gives_the_same_text_and_none_another(rng):
    logits = rng.normal(size=(5, 8, 7, 7))

    def texts(seed):
        return ops.convert_to_numpy(
            decoding.generate(Chain(logits), np.zeros((5, 1)), decoding.Sample(seed=seed), max_length=8).tokens
        )

    np.testing.assert_array_equal(texts(3), texts(3))
    assert np.any(texts(3) != texts(4))
    assert np.any(texts(None) != texts(None))


@pytest.mark.parametrize("strategy", [decoding.Greedy(), decoding.Sample(seed=2)], ids=["greedy", "sample"])
def test_scores_and_lengths_are_those_of_the_texts(strategy, rng):
    logits = 2 * rng.normal(size=(30, 7, 6, 6))
    found = decoding.generate(Chain(logits), np.zeros((30, 1)), strategy, max_length=7)
    tokens, lengths, scores = (ops.convert_to_numpy(part)[:, 0] for part in found)
    assert {1, 7} <= set(lengths)
    table = log_softmax(logits)
    for row in range(30):
        text = tokens[row, : lengths[row]]
        total = sum(table[row, t, last, now] for t, (last, now) in enumerate(zip([1, *text], text)))
        np.testing.assert_allclose(scores[row], total, rtol=1e-4)
        assert END not in text[:-1]
        assert text[-1] == END or lengths[row] == 7
        np.testing.assert_array_equal(tokens[row, lengths[row] :], 0)


class Second(decoding.TokenStrategy):
    """A user's own strategy: the second best token."""

    def pick(self, log_probs, index, context):
        return ops.top_k(log_probs, 2)[1][:, 1]


def test_user_written_strategies_plug_in(rng):
    logits = rng.normal(size=(4, 1, 6, 6))
    found = decoding.generate(Chain(logits), np.zeros((4, 1)), Second(), max_length=1)
    wanted = np.argsort(logits[:, 0, 1, 2:], axis=-1)[:, -2] + 2
    np.testing.assert_array_equal(ops.convert_to_numpy(found.tokens)[:, 0, 0], wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "`temperature` must be a number above 0. Received: temperature=0"),
        ({"temperature": "hot"}, "`temperature` must be a number above 0"),
        ({"top_k": 0}, "`top_k` must be an integer of at least 1"),
        ({"top_p": 0}, r"`top_p` must be in \(0, 1\]. Received: top_p=0"),
        ({"top_p": 1.1}, r"`top_p` must be in \(0, 1\]. Received: top_p=1.1"),
        ({"min_p": -0.1}, r"`min_p` must be in \[0, 1\]"),
        ({"seed": 1.5}, "`seed` must be an integer or None"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        decoding.Sample(**arguments)


@pytest.mark.parametrize(
    "strategy", [decoding.Greedy(), decoding.Sample(0.7, 5, 0.9, 0.1, 3), decoding.Beam(3, 0.6, 0.1, 2, 1.5)]
)
def test_strategies_are_saved(strategy):
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(strategy)) == strategy
