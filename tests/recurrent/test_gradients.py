"""Training computes gradients of weights after the loop; they equal those of the plain loop."""

import gc
import weakref

import numpy as np
import pytest
from keras import layers, ops

import keras_attn as ka
from keras_attn.backend import has_later_gradient, product
from keras_attn.recurrent import cell_steps, decoder
from keras_attn.recurrent.decoder import late_context
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


@pytest.mark.trains
def test_a_step_of_training_leaves_nothing_behind(monkeypatch, rng):
    """The backward pass refers to what the loop read, which must not refer to the backward pass."""
    traces = []

    def kept(added, memory, trace):
        traces.append(trace)
        return late_context(added, memory, trace)

    monkeypatch.setattr(decoder, "late_context", kept)
    layer = ka.AdditiveRNNAttention(UNITS)
    inputs, memory = rng.normal(size=(B, T, D)).astype("float32"), rng.normal(size=(B, S, M)).astype("float32")
    layer.build(inputs.shape, memory.shape)
    derivative(layer, inputs, memory, training=True)
    left = [weakref.ref(tensor) for trace in traces for tensor in trace.values()]
    assert len(left) == 4 * has_later_gradient
    traces.clear()
    gc.collect()
    assert not any(ref() is not None for ref in left)


@pytest.mark.trains
@pytest.mark.tensorflow
def test_gradients_of_gradients_need_a_plain_loop(rng):
    import tensorflow as tf

    layer = ka.AdditiveRNNAttention(UNITS)
    inputs, memory = rng.normal(size=(B, T, D)).astype("float32"), rng.normal(size=(B, S, M)).astype("float32")
    layer.build(inputs.shape, memory.shape)

    def penalty(training):
        x, kernel = tf.constant(inputs), layer.cell.kernel.value
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x, memory, training=training) ** 2)
            slope = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(slope, kernel)

    assert np.abs(penalty(False)).max() > 0
    with pytest.raises(LookupError, match="needs a call with training=False"):
        penalty(True)


@pytest.mark.tensorflow
@pytest.mark.parametrize("alignment", [ka.Monotonic(offset=0.0), ka.MonotonicChunkwise(2), ka.ForwardAlignment()])
def test_xla_trains_with_free_lengths(alignment, rng):
    import tensorflow as tf

    layer = ka.AdditiveRNNAttention(UNITS, alignment=alignment)
    inputs, memory = rng.normal(size=(B, T, D)).astype("float32"), rng.normal(size=(B, S, M)).astype("float32")
    layer.build(inputs.shape, memory.shape)
    layer.alignment.noise = 0
    specs = [tf.TensorSpec((None, None, D)), tf.TensorSpec((None, None, M)), tf.TensorSpec((None, None), tf.bool)]

    def gradients(inputs, memory, memory_mask):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(inputs, memory, memory_mask=memory_mask, training=True) ** 2)
        return tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

    mask = np.arange(S) < [[3], [5]]
    plain, compiled = (
        tf.function(gradients, input_signature=specs, jit_compile=jit_compile)(inputs, memory, mask)
        for jit_compile in (False, True)
    )
    for one, two in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4, rtol=1e-4)


@pytest.mark.trains
def test_weights_too_small_for_an_inverse_have_a_gradient(rng):
    layer = ka.RNNAttention(layers.SimpleRNNCell(1), ka.DotScore(), alignment=ka.ForwardAlignment())
    layer.build((1, 4, D), (1, 2, 1))
    memory = np.array([[[0.0], [95.0]]], "float32")  # scores of which one all but excludes the other
    for value in (derivative(layer, np.ones((1, 4, D), "float32"), sign * memory) for sign in (-1, 1)):
        assert all(np.all(np.isfinite(gradient)) for gradient in value)
