"""Training computes gradients of weights after the loop; they equal those of the plain loop."""

import numpy as np
import pytest
from keras import layers, ops

import keras_attn as ka
from keras_attn.backend import has_later_gradient, product
from keras_attn.recurrent import cell_steps
from tests.recurrent.derivatives import derivative, in_float64

B, T, S, D, M, UNITS = 2, 4, 5, 3, 6, 6
CELLS = {
    "gru": lambda: layers.GRUCell(UNITS, bias_initializer="normal"),
    "gru, reset before": lambda: layers.GRUCell(UNITS, reset_after=False),
    "gru, no bias": lambda: layers.GRUCell(UNITS, use_bias=False),
    "lstm": lambda: layers.LSTMCell(UNITS, bias_initializer="normal"),
    "simple": lambda: layers.SimpleRNNCell(UNITS),
    "stacked": lambda: layers.StackedRNNCells([layers.LSTMCell(4), layers.GRUCell(UNITS)]),
}
LAYERS = {name: lambda make=make: ka.RNNAttention(make(), ka.AdditiveScore(3)) for name, make in CELLS.items()}
LAYERS["history"] = lambda: ka.RNNAttention(layers.GRUCell(UNITS), ka.LocationSensitiveScore(2, 3))
LAYERS["luong"] = lambda: ka.LuongRNNAttention(UNITS, layers.GRUCell(4))
LAYERS["luong, lstm"] = lambda: ka.LuongRNNAttention(UNITS, score=ka.AdditiveScore())


@pytest.mark.trains
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_training_equal_those_of_the_plain_loop(name, masked, rng):
    layer = LAYERS[name]()
    inputs, memory = rng.normal(size=(B, T, D)).astype("float32"), rng.normal(size=(B, S, M)).astype("float32")
    layer.build(inputs.shape, memory.shape)
    named = {}
    if masked:
        named = {"inputs_mask": np.arange(T) < [[4], [2]], "memory_mask": np.arange(S) < [[3], [5]]}
    plain, trained = (derivative(layer, inputs, memory, training=training, **named) for training in (False, True))
    assert all(np.abs(gradient).max() > 1e-4 for gradient in plain)
    for one, two in zip(trained, plain, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5, rtol=1e-4)


@in_float64
@pytest.mark.trains
def test_gradients_of_dropped_inputs_are_those_of_the_same_noise(rng):
    """The gradient of the kernel is the slope of the loss under one draw of the noise."""
    layer = ka.AdditiveRNNAttention(UNITS, dropout=0.5, dtype="float64")
    inputs, memory = rng.normal(size=(B, T, D)), rng.normal(size=(B, S, M))
    layer.build(inputs.shape, memory.shape)
    seed = layer.non_trainable_variables
    start = [ops.convert_to_numpy(weight) for weight in seed]

    def again():
        for weight, value in zip(seed, start, strict=True):
            weight.assign(value)

    again()
    gradients = derivative(layer, inputs, memory, training=True)
    index = 1 + next(i for i, weight in enumerate(layer.trainable_weights) if weight is layer.cell.kernel)
    kernel, step = ops.convert_to_numpy(layer.cell.kernel), 1e-6
    direction = rng.normal(size=kernel.shape)
    losses = []
    for sign in (step, -step):
        again()
        layer.cell.kernel.assign(kernel + sign * direction)
        losses.append(float(ops.convert_to_numpy(ops.sum(ops.square(layer(inputs, memory, training=True))))))
    slope = (losses[0] - losses[1]) / (2 * step)
    np.testing.assert_allclose(slope, np.sum(gradients[index] * direction), rtol=1e-5)


@pytest.mark.trains
@pytest.mark.skipif(not has_later_gradient, reason="the backend computes gradients in the loop")
@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_of_a_kernel_is_one_product_after_the_loop_of_a_training(training, monkeypatch, rng):
    products = []

    def counted(left, right, **named):
        products.append((left.shape, right.shape))
        return product(left, right, **named)

    monkeypatch.setattr(cell_steps, "product", counted)
    layer = ka.AdditiveRNNAttention(UNITS, 5)
    layer.build((B, T, D), (B, S, M))
    inputs, memory = rng.normal(size=(B, T, D)).astype("float32"), rng.normal(size=(B, S, M)).astype("float32")
    derivative(layer, inputs, memory, training=training)
    assert sorted(products) == training * [((T * B, size), (T * B, 3 * UNITS)) for size in sorted((UNITS, M))]
