"""Feed-forward layers: their equations, and bad input."""

import numpy as np
import pytest
from keras import ops

import keras_attn as ka


def weights(projection):
    return [ops.convert_to_numpy(weight) for weight in projection.weights]


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 3, 5)).astype("float32")


def test_the_equation(x):
    layer = ka.FeedForward(7)
    outputs = layer(x)
    (w1, b1), (w2, b2) = weights(layer.hidden_projection), weights(layer.out_projection)
    np.testing.assert_allclose(outputs, np.maximum(x @ w1 + b1, 0) @ w2 + b2, atol=1e-5)


def test_the_gated_equation(x):
    layer = ka.GatedFeedForward(7)
    outputs = layer(x)
    (w1, b1), (w2, b2), (w3, b3) = map(weights, (layer.gate_projection, layer.hidden_projection, layer.out_projection))
    gate = x @ w1 + b1
    np.testing.assert_allclose(outputs, (gate / (1 + np.exp(-gate)) * (x @ w2 + b2)) @ w3 + b3, atol=1e-5)


@pytest.mark.parametrize("kind", [ka.FeedForward, ka.GatedFeedForward])
def test_dropout_and_activation(kind, x):
    layer = kind(64, activation="tanh", dropout=0.5)
    np.testing.assert_array_equal(layer(x), layer(x, training=False))
    assert np.abs(np.array(layer(x, training=True)) - np.array(layer(x))).max() > 1e-3
    assert kind.from_config(layer.get_config()).activation is layer.activation


@pytest.mark.parametrize("kind", [ka.FeedForward, ka.GatedFeedForward])
def test_bad_arguments_are_named(kind):
    with pytest.raises(ValueError, match="`hidden_size` must be an integer of at least 1. Received: hidden_size=0"):
        kind(0)
    with pytest.raises(ValueError, match=r"`dropout` must be a number in \[0, 1\)"):
        kind(3, dropout=2)
