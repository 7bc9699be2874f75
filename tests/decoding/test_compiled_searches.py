"""Compiled searches: one for all seeds, few for all greatest lengths, no more than a bound, the same results."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import decoding, models
from keras_attn.models import searches

BACKEND = keras.config.backend()
PROMPTS = np.array([[5, 6, 7], [8, 4, 0]])
compiles = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch compiles nothing: every search runs as it goes")


def make(**named):
    model = models.CausalTransformer(11, num_layers=1, size=8, num_heads=2, hidden_size=11, **named)
    model({"target": PROMPTS})
    model.get_layer("projection").kernel.assign(4 * ops.convert_to_numpy(model.get_layer("projection").kernel))
    return model


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(2)
    return make()


@pytest.fixture
def traces(model, monkeypatch):
    """Counts how often the model's `init_state` runs: once per trace of a compiled search."""
    calls, plain = [], type(model).init_state

    def counting(self, *arguments, **named):
        calls.append(1)
        return plain(self, *arguments, **named)

    monkeypatch.setattr(type(model), "init_state", counting)
    model.__dict__.pop("_compiled_searches", None)
    return calls


def arrays(found):
    return [ops.convert_to_numpy(part) for part in found]


@compiles
@pytest.mark.slow
def test_one_search_for_all_seeds(model, traces):
    texts = [
        arrays(model.generate(PROMPTS, decoding.Sample(5.0, seed=s), max_length=9))[0] for s in (1, 2, None, 1, -3)
    ]
    assert len(traces) == 1
    np.testing.assert_array_equal(texts[0], texts[3])
    assert len({text.tobytes() for text in texts}) >= 3


@compiles
def test_few_searches_for_all_lengths(model, traces):
    for length in (1, 7, 16, 3):
        assert model.generate(PROMPTS, max_length=length).tokens.shape == (2, 1, length)
    assert len(traces) == 1
    for length in (17, 32, 20):
        assert model.generate(PROMPTS, max_length=length).tokens.shape == (2, 1, length)
    assert len(traces) == 2


@compiles
@pytest.mark.slow
def test_other_numbers_are_compiled_anew(model, traces):
    strategies = [decoding.Sample(seed=1), decoding.Sample(0.5, seed=1), decoding.Greedy(), decoding.Beam(2)]
    for strategy in strategies:
        model.generate(PROMPTS, strategy, max_length=3)
    assert len(traces) == 4


@compiles
@pytest.mark.slow
def test_the_one_that_was_not_used_for_longest_goes(model, traces, monkeypatch):
    monkeypatch.setattr(searches, "MAX_COMPILED_SEARCHES", 2)
    greedy, sample, beam = decoding.Greedy(), decoding.Sample(seed=1), decoding.Beam(2)
    for strategy, number in ((greedy, 1), (sample, 2), (greedy, 2), (beam, 3), (greedy, 3), (sample, 4), (beam, 5)):
        model.generate(PROMPTS, strategy, max_length=3)
        assert len(traces) == number
        assert len(model._searches()) <= 2


@compiles
@pytest.mark.slow
def test_replaced_weights_are_compiled_anew(traces):
    other = make()
    other.generate(PROMPTS, max_length=3)
    other.enable_lora(2) if "enable_lora" in dir(other) else other.quantize("int8")
    other.generate(PROMPTS, max_length=3)
    assert len(traces) == 2 and len(other._searches()) == 1


@pytest.mark.parametrize(
    "strategy",
    [
        decoding.Greedy(),
        decoding.Sample(1.3, seed=5),
        decoding.Sample(1.3, top_k=6, top_p=0.9, seed=2**40 + 1),
        decoding.Beam(3, 0.8, num_return_sequences=3),
        decoding.Beam(3, -0.8, num_return_sequences=2),
        decoding.Beam(2, 0.8, patience=1.0),
    ],
    ids=str,
)
def test_results_are_those_of_an_uncompiled_search_of_that_length(model, strategy):
    for length in (3, 17) if BACKEND == "tensorflow" else (3,):
        named = {"max_length": length, "prefix_ids": [[4], [0]]}
        mine = arrays(model.generate(PROMPTS, strategy, **named))
        wanted = arrays(decoding.generate(model, PROMPTS, strategy, **named))
        np.testing.assert_array_equal(mine[0], wanted[0])
        np.testing.assert_array_equal(mine[1], wanted[1])
        np.testing.assert_allclose(mine[2], wanted[2], rtol=1e-5)


def test_places_are_rounded_up_as_far_as_positions_reach():
    assert [searches.places_for(n) for n in (1, 16, 17, 256, 300)] == [16, 16, 32, 256, 512]
    assert [searches.places_for(n, 40) for n in (1, 17, 33, 40)] == [16, 32, 40, 40]
    assert searches.places_for(3, 9) == 9


def test_learned_positions_bound_the_places(traces):
    """Compiled with room for no more than the table's 21 positions; the texts are those of an uncompiled search."""
    other = make(position=ka.Learned(21))
    for length in (17, 19):
        named = {"max_length": length, "end_id": 10}
        mine, wanted = other.generate(PROMPTS, **named), decoding.generate(other, PROMPTS, **named)
        np.testing.assert_array_equal(*(ops.convert_to_numpy(found.tokens) for found in (mine, wanted)))


def test_a_strategy_keeps_its_seed():
    strategy = decoding.Sample(0.5, top_k=3, seed=7)
    assert strategy.without_seed() == decoding.Sample(0.5, top_k=3) and strategy.seed == 7
    assert decoding.Beam(2).without_seed() == decoding.Beam(2)
