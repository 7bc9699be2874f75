"""Attention pooling: its equations by NumPy, hops and their penalty, models around it."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka

B, S, M, U, R = 3, 7, 5, 11, 2


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


def by_numpy(layer, inputs, mask):
    """The papers' equations in float64: pooled `[B, R, M]`, scores `[B, R, S]`."""
    kernel, bias = (numpy(weight) for weight in layer.hidden_projection.weights)
    energies = np.tanh(inputs @ kernel + bias) @ numpy(layer.v.kernel)  # [B, S, R]
    exponents = np.exp(energies) * mask[..., None]
    scores = np.swapaxes(exponents / np.maximum(exponents.sum(1, keepdims=True), 1e-30), 1, 2)
    return scores @ inputs, scores


@pytest.mark.parametrize("num_hops", [1, R])
def test_equals_the_equations(num_hops, rng):
    layer = ka.AttentionPooling(U, num_hops, bias_initializer="normal")
    inputs = rng.normal(size=(B, S, M)).astype("float32")
    mask = np.arange(S) < np.array([[7], [2], [0]])
    pooled, scores = layer(inputs, mask=mask, return_attention_scores=True)
    wanted = by_numpy(layer, inputs.astype("float64"), mask)
    shapes = ((B, M), (B, S)) if num_hops == 1 else ((B, R, M), (B, R, S))
    for got, want, shape in zip((pooled, scores), wanted, shapes):
        assert tuple(got.shape) == shape
        np.testing.assert_allclose(numpy(got), want.reshape(shape), atol=1e-6)
    np.testing.assert_array_equal(numpy(pooled)[2], 0)


def test_by_hand():
    """Two positions with energies log 3 and 0: weights 3/4 and 1/4."""
    layer = ka.AttentionPooling(1, use_bias=False)
    layer.build((None, None, 1))
    layer.set_weights([np.ones((1, 1)), np.array([[np.log(3.0) / np.tanh(1.0)]])])
    assert numpy(layer(np.array([[[1.0], [0.0]]], "float32"))).tolist() == [[pytest.approx(0.75)]]


def test_units_are_the_size_of_the_inputs_by_default():
    layer = ka.AttentionPooling()
    layer.build((None, None, M))
    assert layer.hidden_projection.units == M


def test_the_penalty_is_that_of_the_scores_and_only_in_training(rng):
    layer = ka.AttentionPooling(U, R, penalty=0.5)
    inputs = rng.normal(size=(B, S, M)).astype("float32")
    _, scores = layer(inputs, return_attention_scores=True)
    assert not layer.losses
    layer(inputs, training=True)
    scores = numpy(scores)
    overlap = scores @ np.swapaxes(scores, 1, 2) - np.eye(R)
    np.testing.assert_allclose(numpy(layer.losses[0]), 0.5 * (overlap**2).sum((1, 2)).mean(), rtol=1e-5)


@pytest.mark.trains
def test_classifies_behind_an_lstm(rng):
    """Learns which of two ids a row holds somewhere, padding around it ignored."""
    ids = rng.integers(4, 9, size=(200, S))
    labels = rng.integers(0, 2, size=200)
    ids[np.arange(200), rng.integers(0, 4, size=200)] = 2 + labels
    ids[:, 5:] = 0
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 8, mask_zero=True)(tokens)
    lstm = keras.layers.LSTM(8, return_sequences=True, use_cudnn=False)
    pooled = ka.AttentionPooling(8)(ka.RecurrentEncoder(lstm)(x))
    model = keras.Model(tokens, keras.layers.Dense(1)(pooled))
    model.compile(keras.optimizers.Adam(0.02), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(ids, labels, epochs=12, batch_size=40, verbose=0)
    assert np.mean((model.predict(ids, verbose=0)[:, 0] > 0) == labels) > 0.95
    maps = ka.attention_maps(model, ids[:3])
    assert [tuple(scores.shape) for scores in maps.values()] == [(3, S)]
    np.testing.assert_array_equal(numpy(next(iter(maps.values())))[:, 5:], 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "`units` must be an integer of at least 1"),
        ({"num_hops": 0}, "`num_hops` must be an integer of at least 1"),
        ({"penalty": -1.0}, "`penalty` must be a number of at least 0"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ka.AttentionPooling(**arguments)


def test_free_sizes_are_refused():
    with pytest.raises(ValueError, match="`inputs` must have a static last axis"):
        ka.AttentionPooling()(keras.Input((None, None)))
