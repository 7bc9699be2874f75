"""Beam search: exhaustive search on small problems, by hand, frozen texts, exact stops."""

import itertools
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_attn import decoding

END = 2
NEVER = (0, 1)  # padding and start


class Chain:
    """A model whose next token depends on the row, the last token and the position, by a table `[B, L, V, V]`."""

    def __init__(self, logits):
        self.logits = ops.convert_to_tensor(np.asarray(logits, "float32"))

    def init_state(self, source, max_length):
        return {"shared": {"unused": ops.ones((7,))}, "row": ops.arange(ops.shape(source)[0]), "count": ops.zeros(())}

    def step(self, tokens, state, index):
        flat = (state["row"] * self.logits.shape[1] + index) * self.logits.shape[2] + tokens
        return ops.take(ops.reshape(self.logits, (-1, self.logits.shape[-1])), flat, axis=0), state


def log_softmax(logits):
    logits = logits - np.max(logits, -1, keepdims=True)
    return logits - np.log(np.sum(np.exp(logits), -1, keepdims=True))


def exhaustive(logits, max_length, length_penalty):
    """Every text of one row, best first: (score, tokens); the log probabilities are those of all tokens."""
    table, num_tokens = log_softmax(np.asarray(logits, "float64")), np.shape(logits)[-1]
    found = []
    for length in range(1, max_length + 1):
        for text in itertools.product(range(num_tokens), repeat=length):
            if any(token in NEVER for token in text):
                continue
            if END in text[:-1] or (length < max_length and text[-1] != END):
                continue
            total = sum(table[t, last, now] for t, (last, now) in enumerate(zip((1, *text), text)))
            found.append((total / ((5 + length) / 6) ** length_penalty, text))
    return sorted(found, reverse=True)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(4, 6),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.6, 1.7, -0.5]),
    st.sampled_from([1.0, 4.0]),
    st.integers(0, 2**16),
)
def test_equals_exhaustive_search(num_tokens, max_length, length_penalty, sharpness, seed):
    """Wide enough to hold every unfinished text, the search finds the N best of all."""
    logits = sharpness * np.random.default_rng(seed).normal(size=(2, max_length, num_tokens, num_tokens))
    width = (num_tokens - len(NEVER)) ** (max_length - 1)
    number = min(width, 4)
    strategy = decoding.Beam(width, length_penalty, num_return_sequences=number)
    found = decoding.generate(Chain(logits), np.zeros((2, 1)), strategy, max_length=max_length)
    tokens, lengths, scores = (ops.convert_to_numpy(part) for part in found)
    for row in range(2):
        for n, (score, text) in enumerate(exhaustive(logits[row], max_length, length_penalty)[:number]):
            np.testing.assert_allclose(scores[row, n], score, rtol=1e-5, atol=1e-6)
            assert tokens[row, n].tolist() == [*text, *[0] * (max_length - len(text))]
            assert lengths[row, n] == len(text)


@pytest.mark.slow
@pytest.mark.parametrize("length_penalty", [0.0, 0.8])
def test_equals_exhaustive_search_over_five_tokens_and_six_positions(length_penalty, rng):
    logits = 2 * rng.normal(size=(1, 6, 5, 5))
    found = decoding.generate(Chain(logits), np.zeros((1, 1)), decoding.Beam(5**5, length_penalty), max_length=6)
    score, text = exhaustive(logits[0], 6, length_penalty)[0]
    np.testing.assert_allclose(ops.convert_to_numpy(found.scores)[0, 0], score, rtol=1e-5)
    assert ops.convert_to_numpy(found.tokens)[0, 0, : len(text)].tolist() == list(text)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, -1.0])
def test_width_one_is_greedy(length_penalty, rng):
    logits = rng.normal(size=(40, 8, 6, 6))
    one, two = (
        decoding.generate(Chain(logits), np.zeros((40, 1)), strategy, max_length=8)
        for strategy in (decoding.Greedy(), decoding.Beam(1, length_penalty))
    )
    lengths = ops.convert_to_numpy(one.lengths)
    assert 1 in lengths
    assert len(set(lengths.ravel())) > 3
    np.testing.assert_array_equal(ops.convert_to_numpy(one.tokens), ops.convert_to_numpy(two.tokens))
    np.testing.assert_array_equal(lengths, ops.convert_to_numpy(two.lengths))
    penalty = ((5 + lengths) / 6) ** length_penalty
    np.testing.assert_allclose(ops.convert_to_numpy(one.scores), ops.convert_to_numpy(two.scores) * penalty, rtol=1e-5)


def by_table(rows):
    """Logits `[1, L, V, V]` from probabilities: `rows[t][last] = {token: probability}`; 4 tokens besides 0."""
    table = np.full((1, len(rows), 5, 5), -1e9)
    for t, row in enumerate(rows):
        for last, nexts in row.items():
            for token, probability in nexts.items():
                table[0, t, last, token] = math.log(probability)
    return table


def test_by_hand():
    """Greedy takes 3 (0.6) and ends at 0.6 x 0.4; the beam finds 4, whose end is sure: 0.4."""
    table = by_table([{1: {3: 0.6, 4: 0.4}}, {3: {END: 0.4, 3: 0.35, 4: 0.25}, 4: {END: 1.0}}])
    greedy = decoding.generate(Chain(table), np.zeros((1, 1)), max_length=2)
    assert ops.convert_to_numpy(greedy.tokens).tolist() == [[[3, END]]]
    beam = decoding.generate(Chain(table), np.zeros((1, 1)), decoding.Beam(2, num_return_sequences=2), max_length=2)
    assert ops.convert_to_numpy(beam.tokens).tolist() == [[[4, END], [3, END]]]
    np.testing.assert_allclose(np.exp(ops.convert_to_numpy(beam.scores)), [[0.4, 0.24]], rtol=1e-5)


class Counting(Chain):
    """Counts its steps, when run eagerly."""

    steps = 0

    def step(self, tokens, state, index):
        self.steps += 1
        return super().step(tokens, state, index)


@pytest.mark.skipif(keras.config.backend() == "jax", reason="JAX traces the loop's body once")
@pytest.mark.parametrize(
    ("length_penalty", "patience", "steps"),
    [
        (0.0, None, 2),  # the end at 0.9 x 0.5 cannot be overtaken by 0.9 x 0.3
        (2.0, None, 6),  # a long text could gain a factor (11 / 7)^2: the search looks on
        (2.0, 0.5, 2),  # unless one finished text of two is enough
    ],
)
def test_stops_as_soon_as_nothing_can_overtake_and_not_before(length_penalty, patience, steps):
    on = {3: {3: 0.9, 4: 0.1}, 4: {3: 0.9, 4: 0.1}}
    table = by_table([{1: {3: 0.9, 4: 0.1}}, {3: {END: 0.5, 3: 0.3, 4: 0.2}, 4: {3: 1.0}}, on, on, on, on])
    model = Counting(table)
    strategy = decoding.Beam(2, length_penalty, patience=patience)
    found = decoding.generate(model, np.zeros((1, 1)), strategy, max_length=6)
    assert model.steps == steps
    if patience is None:
        best, _ = exhaustive(table[0], 6, length_penalty)[0]
        np.testing.assert_allclose(ops.convert_to_numpy(found.scores)[0, 0], best, rtol=1e-4)


def test_a_finished_text_keeps_its_score_for_ever(rng):
    """Found among the N best, a text has the score of its own tokens, however long the search went on."""
    logits = 3 * rng.normal(size=(20, 9, 6, 6))
    strategy = decoding.Beam(5, 0.7, num_return_sequences=5)
    found = decoding.generate(Chain(logits), np.zeros((20, 1)), strategy, max_length=9)
    tokens, lengths, scores = (ops.convert_to_numpy(part) for part in found)
    table = log_softmax(logits)
    assert np.all(np.diff(scores) <= 0)
    assert len(set(lengths.ravel())) > 3
    for row, n in np.ndindex(20, 5):
        text = tokens[row, n, : lengths[row, n]]
        total = sum(table[row, t, last, now] for t, (last, now) in enumerate(zip([1, *text], text)))
        np.testing.assert_allclose(scores[row, n], total / ((5 + len(text)) / 6) ** 0.7, rtol=1e-4)
        assert (text[-1] == END) == (len(text) < 9 or text[-1] == END)
        assert END not in text[:-1]
        np.testing.assert_array_equal(tokens[row, n, lengths[row, n] :], 0)
    assert all(len({tuple(text) for text in tokens[row]}) == 5 for row in range(20))


class Looking(Chain):
    """A chain whose attention over the source is a table too, `[L, V, S]`."""

    def __init__(self, logits, attention):
        super().__init__(logits)
        self.attention = ops.convert_to_tensor(np.asarray(attention, "float32"))

    def step(self, tokens, state, index, return_attention_scores=False):
        logits, state = super().step(tokens, state, index)
        scores = ops.take(self.attention[index], tokens, axis=0)
        return ((logits, scores) if return_attention_scores else logits), state


def test_coverage_penalty_equals_exhaustive_search(rng):
    """GNMT's: the log of how much each real source position was looked at, up to 1."""
    logits, source = rng.normal(size=(1, 3, 4, 4)), np.array([[5, 6, 0]])
    attention = rng.random((3, 4, 3)) * np.array([1, 1, 0])
    attention /= attention.sum(-1, keepdims=True)
    rescored = []
    for score, text in exhaustive(logits[0], 3, 0.0):
        covered = sum(attention[t, last] for t, last in enumerate((1, *text[:-1])))
        penalised = score / ((5 + len(text)) / 6) ** 0.5 + 0.4 * np.log(np.minimum(covered[:2], 1)).sum()
        rescored.append((penalised, text))
    strategy = decoding.Beam(16, 0.5, 0.4, num_return_sequences=3)
    found = decoding.generate(Looking(logits, attention), source, strategy, max_length=3)
    for n, (score, text) in enumerate(sorted(rescored, reverse=True)[:3]):
        np.testing.assert_allclose(ops.convert_to_numpy(found.scores)[0, n], score, rtol=1e-4)
        assert ops.convert_to_numpy(found.tokens)[0, n, : len(text)].tolist() == list(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "`width` must be an integer of at least 1. Received: width=0"),
        ({"width": 2, "num_return_sequences": 3}, "`num_return_sequences` must be at most `width`"),
        (
            {"length_penalty": "long"},
            "`length_penalty` must be a number or a LengthPenalty. Received: length_penalty='long'",
        ),
        ({"length_penalty": math.nan}, "`length_penalty` must be a number"),
        ({"coverage_penalty": -1}, "`coverage_penalty` must not be negative"),
        ({"stop": "never"}, "`stop` must be a StopRule of keras_attn or None. Received: stop='never'"),
        ({"processors": [max]}, "`processors` must be Processors of keras_attn"),
        ({"patience": "a"}, "`patience` must be a number or None. Received: patience='a'"),
        ({"patience": 0}, "`patience` times `width` must be at least `num_return_sequences`"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        decoding.Beam(**arguments)


def test_coverage_wants_ids():
    with pytest.raises(ValueError, match=r"needs a `source` of ids, \[B, S\]. Received: source.shape=\(1, 2, 3\)"):
        decoding.generate(Chain(np.zeros((1, 2, 4, 4))), np.zeros((1, 2, 3)), decoding.Beam(2, 0, 0.1), max_length=2)
