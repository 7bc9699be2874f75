"""Rotary positions: by hand, by distance, and the three scalings against their formulas."""

import math

import numpy as np
import pytest
from keras import ops

import keras_attn as ka


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_rotary_scores_depend_on_distance_alone(fraction, rng):
    rotary = ka.Rotary(fraction=fraction)
    query, key = (ops.convert_to_tensor(rng.normal(size=(1, 1, 1, 8)).astype("float32")) for _ in range(2))

    def score(query_position, key_position):
        turned = [
            rotary.turn(heads, ops.convert_to_tensor([[position]]))
            for heads, position in ((query, query_position), (key, key_position))
        ]
        return float(ops.sum(turned[0] * turned[1]))

    np.testing.assert_allclose(score(3, 1), score(1003, 1001), atol=2e-3)
    np.testing.assert_allclose(score(0, 0), float(ops.sum(query * key)), atol=1e-5)
    assert abs(score(3, 1) - score(4, 1)) > 1e-3


def test_rotary_by_hand():
    """A head of one pair turned by one radian."""
    turned = ka.Rotary().turn(np.array([[[[1.0, 0.0]]]], "float32"), np.array([[1]]))
    np.testing.assert_allclose(np.array(turned)[0, 0, 0], [np.cos(1), np.sin(1)], atol=1e-6)


def turned_angles(rotary, size, position):
    """The angle by which each pair turns, read off heads that start at (1, 0), and their length."""
    heads = np.concatenate([np.ones((1, 1, 1, size // 2)), np.zeros((1, 1, 1, size // 2))], -1)
    turned = ops.convert_to_numpy(rotary.turn(ops.convert_to_tensor(heads), ops.convert_to_tensor([[position]])))
    first, second = np.split(turned[0, 0, 0], 2)
    return np.arctan2(second, first), np.hypot(first, second)


def test_linear_scaling_is_interpolation():
    angles, lengths = turned_angles(ka.Rotary(scaling=ka.LinearScaling(4)), 8, 8)
    np.testing.assert_allclose(angles, turned_angles(ka.Rotary(), 8, 2)[0], atol=1e-6)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_ntk_scaling_keeps_the_fastest_and_interpolates_the_slowest():
    scaled, plain = (turned_angles(ka.Rotary(scaling=each), 8, 1)[0] for each in (ka.NTKScaling(4), None))
    np.testing.assert_allclose(scaled[0], plain[0], rtol=1e-5)
    np.testing.assert_allclose(scaled[-1], plain[-1] / 4, rtol=1e-5)
    assert np.all(scaled[1:-1] < plain[1:-1])
    np.testing.assert_allclose(turned_angles(ka.Rotary(scaling=ka.NTKScaling(4)), 2, 1)[0], [1], rtol=1e-5)


@pytest.mark.parametrize(("size", "factor", "length"), [(64, 4, 2048), (128, 16, 4096), (8, 2, 64)])
def test_yarn_is_the_papers_ramp(size, factor, length):
    """NTK-by-parts, pair by pair: turns within the original length, the ramp over pairs that they give."""
    angles, lengths = turned_angles(ka.Rotary(scaling=ka.YarnScaling(factor, length)), size, 1)

    def pair_of(turns):
        return size / 2 * math.log(length / (2 * math.pi * turns)) / math.log(10000)

    low, high = max(math.floor(pair_of(32)), 0), min(math.ceil(pair_of(1)), size - 1)
    for pair, angle in enumerate(angles):
        rate = 10000 ** (-2 * pair / size)
        share = min(max((pair - low) / (high - low), 0), 1)
        np.testing.assert_allclose(angle, (1 - share) * rate + share * rate / factor, rtol=1e-4)
    np.testing.assert_allclose(lengths, 0.1 * math.log(factor) + 1, rtol=1e-6)
    np.testing.assert_allclose(angles[0], 1, rtol=1e-5)
    np.testing.assert_allclose(angles[-1], 10000 ** (2 / size - 1) / factor, rtol=1e-4)


def theirs(size, base, **settings):
    """The rates and the magnitude that `transformers` computes."""
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = {"rope_theta": base, **settings}
    config = transformers.LlamaConfig(
        hidden_size=2 * size, num_attention_heads=2, max_position_embeddings=4096, rope_parameters=parameters
    )
    rates, magnitude = ROPE_INIT_FUNCTIONS[settings["rope_type"]](config, "cpu")
    return rates.numpy(), magnitude


YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512}


@pytest.mark.parametrize(
    ("scaling", "settings"),
    [
        (ka.LinearScaling(4.0), {"rope_type": "linear", "factor": 4.0}),
        (ka.YarnScaling(8.0, 512), YARN),
        (ka.YarnScaling(8.0, 512, fast=20, slow=2), {**YARN, "beta_fast": 20, "beta_slow": 2}),
        (ka.YarnScaling(8.0, 512, attention_factor=0.75), {**YARN, "attention_factor": 0.75}),
        (ka.YarnScaling(8.0, 512, truncate=False), {**YARN, "truncate": False}),
        (ka.YarnScaling(8.0, 512, mscale=0.5, mscale_all_dim=0.8), {**YARN, "mscale": 0.5, "mscale_all_dim": 0.8}),
        (ka.YarnScaling(1.0, 512), {**YARN, "factor": 1.0}),
        (ka.Llama3Scaling(8.0, 512), {**LLAMA3, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
        (ka.Llama3Scaling(8.0, 512, 0.5, 9.0), {**LLAMA3, "low_freq_factor": 0.5, "high_freq_factor": 9.0}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("base", [10000.0, 500000.0])
@pytest.mark.parametrize("size", [8, 64])
def test_scalings_equal_those_of_transformers(scaling, settings, base, size):
    rates, magnitude = theirs(size, base, **settings)
    np.testing.assert_allclose(scaling.rates(base, size), rates, rtol=1e-5)
    np.testing.assert_allclose(scaling.magnitude, magnitude, rtol=1e-6)


def test_llama3_by_hand():
    """Waves of 7, 2.5 and 0.5 turns within the original length: unchanged, half way, and slowed."""
    scaling = ka.Llama3Scaling(10, 70, low_factor=1, high_factor=4)
    base = (7 / 0.5) ** 3  # rates 1, 1/14, 1/196 of a size of 6
    wanted = []
    for rate in (1, 1 / 14, 1 / 196):
        turns = 70 * rate / (2 * math.pi)
        share = min(max((turns - 1) / 3, 0), 1)
        wanted.append(share * rate + (1 - share) * rate / 10)
    np.testing.assert_allclose(scaling.rates(base, 6), wanted, rtol=1e-9)


def test_scores_are_exact_far_out_in_low_precision(rng):
    """Angles are float32 inside: a bfloat16 position 4,099 would be 4,096."""
    heads = ops.cast(rng.normal(size=(1, 1, 1, 8)), "bfloat16")
    low, exact = (
        ka.Rotary().turn(each, ops.convert_to_tensor([[4099]])) for each in (heads, ops.cast(heads, "float64"))
    )
    np.testing.assert_allclose(ops.cast(low, "float64"), exact, atol=2e-2)


def test_scaled_rotaries_are_saved():
    for scaling in (
        ka.LinearScaling(2),
        ka.NTKScaling(2.5),
        ka.YarnScaling(4, 64, 16, 1, 1.5, truncate=False),
        ka.Llama3Scaling(8, 64),
    ):
        rotary = ka.Rotary(500.0, 0.5, scaling)
        assert ka.Rotary.from_config(rotary.get_config()) == rotary
        assert rotary != ka.Rotary(500.0, 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ka.Rotary(fraction=0), r"`fraction` must be in \(0, 1\]"),
        (lambda: ka.Rotary(base=1), "`base` must be greater than 1"),
        (lambda: ka.Rotary(scaling=2), "`scaling` must be a Scaling of keras_attn or None. Received: scaling=2"),
        (lambda: ka.LinearScaling(0.5), "`factor` must be a number of at least 1. Received: factor=0.5"),
        (lambda: ka.YarnScaling(2, 0), "`original_length` must be an integer of at least 1"),
        (lambda: ka.YarnScaling(2, 64, fast=1, slow=2), "`fast` must be greater than `slow`"),
        (lambda: ka.YarnScaling(2, 64, mscale=1.0), "`mscale` and `mscale_all_dim` must be given together"),
        (lambda: ka.YarnScaling(2, 64, truncate=0), "`truncate` must be True or False. Received: truncate=0"),
        (lambda: ka.Llama3Scaling(2, 64, 4, 4), "`high_factor` must be greater than `low_factor`"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_head_of_odd_size_is_refused():
    with pytest.raises(ValueError, match="must be even and positive. Received: head size 3"):
        ka.MultiHeadSelfAttention(2, head_size=3, position=ka.Rotary())(np.zeros((1, 2, 6), "float32"))
