"""Positions added to embeddings: the paper's formula, explicit positions."""

import numpy as np
import pytest
from keras import ops

import keras_attn as ka


@pytest.mark.parametrize("size", [1, 6, 7])
def test_sinusoidal_formula(size):
    table = np.array(ka.Sinusoidal()(np.zeros((1, 9, size), "float32")))[0]
    for position in range(9):
        for unit in range(size):
            angle = position / 10000 ** (2 * (unit // 2) / size)
            wanted = np.cos(angle) if unit % 2 else np.sin(angle)
            assert abs(table[position, unit] - wanted) < 1e-5


@pytest.mark.parametrize("size", [1, 6, 7])
def test_sines_before_cosines_are_those_of_marian(size):
    table = np.array(ka.Sinusoidal(interleaved=False)(np.zeros((1, 9, size), "float32")))[0]
    half = (size + 1) // 2
    for unit in range(size):
        angles = np.arange(9) / 10000 ** (2 * (unit % half) / size)
        np.testing.assert_allclose(table[:, unit], np.sin(angles) if unit < half else np.cos(angles), atol=1e-5)
    marian = pytest.importorskip("transformers.models.marian.modeling_marian")
    theirs = marian.MarianSinusoidalPositionalEmbedding(9, size).create_weight()
    np.testing.assert_allclose(table, theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("make", [ka.Sinusoidal, lambda: ka.Learned(11)])
def test_explicit_positions(make, rng):
    x, positions = rng.normal(size=(2, 5, 6)).astype("float32"), np.array([[0, 1, 2, 0, 1], [4, 3, 2, 1, 0]])
    layer = make()
    table = np.array(layer(np.zeros((1, 11, 6), "float32")))[0]
    np.testing.assert_allclose(layer(x, positions=positions), x + table[positions], atol=1e-6)
    np.testing.assert_allclose(layer(x), x + table[:5], atol=1e-6)


def test_sinusoidal_is_exact_in_low_precision_far_out():
    layer = ka.Sinusoidal(dtype="bfloat16")
    outputs = layer(np.zeros((1, 1, 4), "float32"), positions=np.array([[4099]]))
    angles = np.array([4099, 4099 / 100.0])
    wanted = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(-1)
    np.testing.assert_allclose(ops.cast(outputs, "float32")[0, 0], wanted, atol=5e-3)


def test_too_long_for_learned_positions():
    with pytest.raises(ValueError, match=r"at most max_length=4 positions. Received: inputs.shape=\(1, 5, 6\)"):
        ka.Learned(4)(np.zeros((1, 5, 6), "float32"))
    with pytest.raises(ValueError, match="`max_length` must be an integer of at least 1"):
        ka.Learned(0)


@pytest.mark.parametrize("positions", [[[0, 1, 4]], [[-1, 0, 1]]])
def test_positions_without_a_vector_are_named(positions):
    layer, x = ka.Learned(4), np.zeros((1, 3, 6), "float32")
    layer(x, positions=np.array([[3, 0, 3]]))
    found = f"from {min(positions[0])} to {max(positions[0])}"
    for given in (positions, np.array(positions), ops.convert_to_tensor(positions)):
        with pytest.raises(ValueError, match=f"`positions` must be from 0 to 3, .* max_length=4. Received: .* {found}"):
            layer(x, positions=given)


def test_bad_positions_are_named():
    with pytest.raises(ValueError, match="`base` must be greater than 1"):
        ka.Sinusoidal(base=0)
    with pytest.raises(ValueError, match="`interleaved` must be True or False. Received: interleaved='no'"):
        ka.Sinusoidal(interleaved="no")
    with pytest.raises(ValueError, match="`positions` must have shape"):
        ka.Sinusoidal()(np.zeros((2, 5, 6), "float32"), positions=np.zeros((2, 4), int))
