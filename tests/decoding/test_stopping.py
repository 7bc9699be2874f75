"""Length penalties and stop rules of beam search, by hand; configs of older versions."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import decoding
from keras_attn.decoding import (
    BestScoreStop,
    CurrentScoreStop,
    ExactStop,
    GNMTPenalty,
    PowerPenalty,
    Progress,
    WidthStop,
)
from tests.decoding.test_beam import Chain, exhaustive

NONE = -np.inf


@pytest.mark.parametrize("exponent", [-0.7, 0.0, 1.0, 1.6])
def test_penalties_are_their_formulas(exponent):
    lengths = np.arange(1, 9, dtype="int32")
    for penalty, wanted in ((GNMTPenalty, ((5 + lengths) / 6) ** exponent), (PowerPenalty, lengths**exponent)):
        found = penalty(exponent)(ops.convert_to_tensor(lengths))
        np.testing.assert_allclose(ops.convert_to_numpy(found), wanted, rtol=1e-6)


@pytest.mark.parametrize("exponent", [-0.5, 0.8])
def test_exact_search_with_the_power_of_the_length(exponent, rng):
    logits = rng.normal(size=(1, 4, 5, 5))
    strategy = decoding.Beam(27, PowerPenalty(exponent), num_return_sequences=3)
    found = decoding.generate(Chain(logits), np.zeros((1, 1)), strategy, max_length=4)
    texts = [
        (score * ((5 + len(text)) / 6) ** 0.0 / len(text) ** exponent, text)
        for score, text in exhaustive(logits[0], 4, 0)
    ]
    for n, (score, text) in enumerate(sorted(texts, reverse=True)[:3]):
        np.testing.assert_allclose(ops.convert_to_numpy(found.scores)[0, n], score, rtol=1e-5)
        assert ops.convert_to_numpy(found.tokens)[0, n, : len(text)].tolist() == list(text)


def done(rule, unfinished, finished, length, exponent, number=1, limit=8):
    """Whether a rule stops one row, with the power of the length as penalty."""
    tensors = (np.array(each, "float32") for each in ([unfinished], [finished]))
    limits, length = ops.convert_to_tensor([limit], "int32"), ops.convert_to_tensor(length, "int32")
    progress = Progress(*map(ops.convert_to_tensor, tensors), number, length, limits, PowerPenalty(exponent))
    return ops.convert_to_numpy(rule.is_done(progress)).item()


@pytest.mark.parametrize(
    ("arguments", "exact", "width", "current", "best"),
    [
        ((-4.0, [-3.0, NONE], 4, 0.0), True, False, False, False),  # one finished text of two
        ((-4.0, [-3.0, -5.0], 4, 0.0), True, True, False, False),  # the second may still be overtaken
        ((-4.0, [-3.0, -5.0], 4, 0.0, 2), False, True, False, False),  # and is returned
        ((-4.0, [-3.0, -3.5], 4, 0.0), True, True, True, True),
        ((-4.0, [-0.9, -0.95], 4, 1.0), False, True, True, False),  # -1 now, -0.5 with eight tokens
        ((-4.0, [-0.3, -0.4], 4, 1.0), True, True, True, True),
        ((-4.0, [-1.1, -1.2], 4, 1.0), False, True, False, False),
        ((-4.0, [-18.0, -19.0], 4, -1.0), True, True, False, False),  # -16 now, -20 with five tokens
        ((-4.0, [-3.0, -3.5], 8, 0.0), True, False, False, False),  # at the maximum length all are compared
        ((NONE, [-3.0, -3.5], 4, 1.0), True, True, True, True),
    ],
)
def test_rules_by_hand(arguments, exact, width, current, best):
    wanted = {ExactStop: exact, WidthStop: width, CurrentScoreStop: current, BestScoreStop: best}
    assert {rule: done(rule(), *arguments) for rule in wanted} == wanted


class Never(decoding.StopRule):
    """A user's own rule."""

    def is_done(self, progress):
        return ops.zeros(ops.shape(progress.unfinished), "bool")


def test_all_rules_find_the_same_where_they_must(rng):
    """Without a length penalty nothing dropped could have won; `WidthStop` alone may miss the best."""
    logits = 2 * rng.normal(size=(200, 7, 6, 6))

    def scores(**named):
        found = decoding.generate(Chain(logits), np.zeros((200, 1)), decoding.Beam(2, **named), max_length=7)
        return ops.convert_to_numpy(found.scores)[:, 0]

    wanted = scores()
    for rule in (Never(), CurrentScoreStop(), BestScoreStop()):
        np.testing.assert_allclose(scores(stop=rule), wanted, rtol=1e-6)
    first = scores(stop=WidthStop())
    assert (first <= wanted + 1e-6).all() and (first < wanted - 1e-3).any()
    early, late = (
        scores(length_penalty=PowerPenalty(2.0), stop=rule) for rule in (CurrentScoreStop(), BestScoreStop())
    )
    assert (early <= late + 1e-6).all() and (early < late - 1e-3).any()


def test_configs_of_older_versions_load_and_new_ones_round_trip():
    old = {"width": 3, "length_penalty": 0.6, "coverage_penalty": 0.0, "num_return_sequences": 2, "patience": 1.5}
    assert decoding.Beam.from_config(old) == decoding.Beam(3, 0.6, 0.0, 2, 1.5)
    assert decoding.Beam(3, 0.6) != decoding.Beam(3, GNMTPenalty(0.6))
    assert decoding.Beam(3, 0.6).penalty == GNMTPenalty(0.6)
    strategy = decoding.Beam(3, PowerPenalty(0.5), stop=WidthStop())
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(strategy)) == strategy
    assert decoding.Sample.from_config({"temperature": 0.5, "seed": 3}) == decoding.Sample(0.5, seed=3)
    assert decoding.Greedy.from_config({}) == decoding.Greedy()


@pytest.mark.parametrize("penalty", [GNMTPenalty, PowerPenalty])
def test_exponents_are_numbers(penalty):
    with pytest.raises(ValueError, match="`exponent` must be a number. Received: exponent='a'"):
        penalty("a")


def test_rules_and_penalties_must_define_their_method():
    for make, name in ((decoding.StopRule().is_done, "is_done"), (decoding.LengthPenalty(), "__call__")):
        with pytest.raises(NotImplementedError, match=f"must define `{name}"):
            make(None)
