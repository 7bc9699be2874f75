"""Generation settings, token by token as `generate` of transformers: random models, alone and combined."""

import functools
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn.decoding import Sample
from tests.pretrained.generating import END, LENGTHS, SOURCE, V, check_equal, make, torch, transformers

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
    pytest.mark.skipif(
        keras.config.backend() == "jax", reason="JAX traces the loop, in which PyTorch cannot be called"
    ),
]

BIASES = {"gpt2": 2.0, "bart": 2.0, "t5": 2.0}
ONE, TWO, THREE = (END,), (END, 5), (9, END, 5)
BAD = [[4], [7, 8], [8, 9, 10], [10, 10], [END], [6, END], [30, 31, 32, 33]]
CASES = {
    "greedy": ("bart", ONE, {}),
    "greedy, prompts": ("gpt2", ONE, {}),
    "several ends": ("t5", THREE, {}),
    "repetition": ("gpt2", ONE, {"repetition_penalty": 1.8}),
    "repetition, ends": ("bart", TWO, {"repetition_penalty": 0.7}),
    "n-grams": ("gpt2", ONE, {"no_repeat_ngram_size": 2, "min_new_tokens": 8}),
    "every token once": ("t5", ONE, {"no_repeat_ngram_size": 1, "min_new_tokens": 8}),
    "bad words": ("gpt2", TWO, {"bad_words_ids": BAD}),
    "minimum": ("bart", TWO, {"min_length": 6}),
    "minimum of new ones": ("gpt2", TWO, {"min_new_tokens": 6}),
    "maximum": ("t5", ONE, {"max_length": 6, "max_new_tokens": None}),
    "forced": ("bart", ONE, {"forced_bos_token_id": 20, "forced_eos_token_id": END, "begin_suppress_tokens": [7]}),
    "suppressed": ("t5", ONE, {"suppress_tokens": [*range(20, 30)], "begin_suppress_tokens": [*range(10, 20), END]}),
    "beams": ("bart", ONE, {"num_beams": 4, "num_return_sequences": 4}),
    "beams, prompts": ("gpt2", THREE, {"num_beams": 3, "num_return_sequences": 2}),
    "beams, long texts": ("t5", ONE, {"num_beams": 5, "length_penalty": 2.0, "num_return_sequences": 5}),
    "beams, short texts": ("gpt2", ONE, {"num_beams": 3, "length_penalty": -1.0, "num_return_sequences": 3}),
    "beams, no penalty": ("bart", TWO, {"num_beams": 2, "length_penalty": 0.0, "num_return_sequences": 2}),
    "first": ("bart", ONE, {"num_beams": 4, "early_stopping": True, "num_return_sequences": 3}),
    "first, long": ("gpt2", TWO, {"num_beams": 2, "early_stopping": True, "length_penalty": 1.5}),
    "never": ("t5", ONE, {"num_beams": 3, "early_stopping": "never", "num_return_sequences": 3}),
    "never, long": ("bart", ONE, {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0}),
    "never, short": ("gpt2", ONE, {"num_beams": 4, "early_stopping": "never", "length_penalty": -0.5}),
    "beams, repetition": ("bart", ONE, {"num_beams": 3, "repetition_penalty": 1.5, "num_return_sequences": 3}),
    "beams, n-grams": ("gpt2", ONE, {"num_beams": 3, "no_repeat_ngram_size": 2, "num_return_sequences": 3}),
    "beams, bad words": ("t5", TWO, {"num_beams": 4, "bad_words_ids": BAD, "renormalize_logits": True}),
    "beams, forced": (
        "bart",
        ONE,
        {"num_beams": 4, "forced_bos_token_id": 20, "forced_eos_token_id": END, "num_return_sequences": 4},
    ),
    "as opus-mt": (
        "t5",
        ONE,
        {"num_beams": 4, "bad_words_ids": [[0]], "forced_eos_token_id": END, "renormalize_logits": True},
    ),
    "as bart-large-cnn": (
        "bart",
        ONE,
        {
            "num_beams": 4,
            "early_stopping": True,
            "length_penalty": 2.0,
            "forced_bos_token_id": 3,
            "forced_eos_token_id": END,
            "no_repeat_ngram_size": 3,
            "min_length": 5,
            "max_length": 14,
            "max_new_tokens": None,
        },
    ),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Several threads only wait for each other on models of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def model_of(kind, ends, seed=0):
    return make(kind, seed, ends, BIASES[kind])


@pytest.mark.parametrize("name", CASES)
def test_texts_and_scores(name):
    kind, ends, settings = CASES[name]
    settings = {"max_new_tokens": 12, **settings}
    texts = check_equal(model_of(kind, ends), kind, ends, {k: v for k, v in settings.items() if v is not None})
    assert all(text[-1] in ends for text in texts if len(text) < 11 and "max_length" not in settings)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_lengths_with_prompts_are_those_of_each_row_alone(row, beams):
    """`max_length` and `min_length` count the prompt."""
    settings = {"max_length": 12, "min_length": 9, "num_beams": beams, "forced_eos_token_id": END}
    length = LENGTHS[row]
    model = model_of("gpt2", ONE, 1)
    texts = check_equal(model, "gpt2", ONE, settings, SOURCE[row : row + 1, :length], LENGTHS[row : row + 1])
    assert 9 <= length + len(texts[0]) <= 12


def test_texts_end_at_all_lengths():
    """Else the stop rules would not matter."""
    lengths = [
        len(text)
        for kind in BIASES
        for text in check_equal(model_of(kind, ONE, 2), kind, ONE, {"max_new_tokens": 12, "num_beams": 2})
    ]
    assert min(lengths) < 6 and max(lengths) == 12


def test_sampling_keeps_the_tokens_of_transformers(rng):
    """Temperature, top-k, top-p and min-p in the same order: the same probabilities."""
    logits = 2 * rng.normal(size=(50, V)).astype("float32")
    logits[:, 3] = -np.inf
    for temperature, top_k, top_p, min_p in (
        (0.7, 20, 0.8, 0.0),
        (1.3, None, 0.5, 0.0),
        (1.0, 9, 1.0, 0.2),
        (2.0, 15, 0.9, 0.1),
    ):
        warpers = transformers.LogitsProcessorList([transformers.TemperatureLogitsWarper(temperature)])
        warpers += [transformers.TopKLogitsWarper(top_k)] if top_k else []
        warpers += [transformers.TopPLogitsWarper(top_p)] if top_p < 1 else []
        warpers += [transformers.MinPLogitsWarper(min_p)] if min_p else []
        wanted = torch.softmax(warpers(None, torch.tensor(logits)), dim=-1).numpy()
        cut = Sample(temperature, top_k, top_p, min_p).cut(ops.convert_to_tensor(logits / temperature))
        found = ops.convert_to_numpy(cut)
        found = np.exp(found - found.max(-1, keepdims=True))
        np.testing.assert_allclose(found / found.sum(-1, keepdims=True), wanted, atol=1e-6)


def random_settings(rng, kind):
    """Random settings, about a third of them given; for prompts only those that count new tokens."""

    def given(probability=0.35):
        return rng.random() < probability

    def ids(number, first=6):
        return rng.integers(first, V, size=number).tolist()

    beams = int(rng.integers(1, 6))
    settings = {"num_beams": beams, "max_new_tokens": int(rng.integers(1, 15))}
    if beams > 1:
        settings["num_return_sequences"] = int(rng.integers(1, beams + 1))
        settings["length_penalty"] = float(rng.choice([-1.5, -0.4, 0.0, 0.5, 1.0, 2.0]))
        settings["early_stopping"] = [True, False, "never"][rng.integers(3)]
    if kind != "gpt2" and given():
        settings["max_length"] = settings.pop("max_new_tokens") + 1
    choices = {
        "repetition_penalty": float(rng.choice([0.8, 1.3, 2.0])),
        "no_repeat_ngram_size": int(rng.integers(1, 4)),
        "bad_words_ids": [ids(size, 3) for size in rng.integers(1, 4, size=6)],
        "min_new_tokens": int(rng.integers(0, 8)),
        "forced_eos_token_id": END,
        "suppress_tokens": ids(3),
        "begin_suppress_tokens": ids(5, 2),
        "renormalize_logits": True,
    }
    if kind != "gpt2":
        choices |= {"min_length": int(rng.integers(0, 8)), "forced_bos_token_id": int(rng.integers(6, V))}
    return settings | {name: value for name, value in choices.items() if given()}


def compare(seed):
    """Compares one random case."""
    rng = np.random.default_rng(seed)
    kind = ("gpt2", "bart", "t5")[rng.integers(3)]
    ends = (ONE, TWO, THREE)[rng.integers(2 if kind == "bart" else 3)]
    model = make(kind, seed, ends, float(rng.normal(3.0, 1.5)) - 0.8 * (len(ends) - 1))
    lengths = rng.integers(1, 7, size=3)
    source = np.where(np.arange(6) < lengths[:, None], rng.integers(3, 12, size=(3, 6)), 0).astype("int32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_equal(model, kind, ends, random_settings(rng, kind), source, lengths)


@pytest.mark.parametrize("seed", range(8))
def test_settings_combined(seed):
    compare(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_settings_combined(block):
    for seed in range(100 + 30 * block, 130 + 30 * block):
        compare(seed)
