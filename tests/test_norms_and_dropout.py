"""Norms and dropout with the arithmetic of the backend: numbers, gradients, shares and seeds."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import backend
from keras_attn.layers.dropout import Dropout

SHAPE = 3, 5, 7
on_tensorflow = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's arithmetic")


def normalized(x, gamma, beta, epsilon):
    """Layer normalisation in float64."""
    x = x.astype("float64")
    variance = ((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + epsilon) * gamma + beta


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "bfloat16", "float64"])
@pytest.mark.parametrize("center", [True, False])
def test_layer_norm_is_its_equation(center, dtype, rng):
    layer = ka.LayerNorm(1e-3, center).make("norm", dtype)
    x = rng.normal(2.0, 3.0, size=SHAPE).astype("float32")
    layer.build(x.shape)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    gamma, *beta = (ops.convert_to_numpy(ops.cast(weight, "float64")) for weight in layer.weights)
    outputs = layer(ops.cast(x, layer.compute_dtype))
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    x = ops.convert_to_numpy(ops.cast(ops.cast(x, layer.compute_dtype), "float32"))
    error = 2.0**-7 if "bfloat16" in dtype else 1e-5
    wanted = normalized(x, gamma, beta[0] if beta else 0, 1e-3)
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(outputs, "float64")), wanted, rtol=error, atol=error)


@on_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_the_gradients_of_layer_norm_are_those_of_keras_also_the_second_ones(jit_compile, rng):
    import tensorflow as tf

    x, weights = rng.normal(size=SHAPE), [rng.normal(size=SHAPE[-1]) for _ in range(2)]
    x, gamma, beta, upstream = map(tf.constant, (x, *weights, rng.normal(size=SHAPE)))

    @tf.function(jit_compile=jit_compile)
    def gradients(function):
        with tf.GradientTape() as outer:
            outer.watch((x, gamma))
            with tf.GradientTape() as inner:
                inner.watch((x, gamma, beta))
                outputs = function(x, gamma, beta)
            first = inner.gradient(outputs, (x, gamma, beta), upstream)
            total = sum(tf.reduce_sum(each**2) for each in first)
        return *first, *outer.gradient(total, (x, gamma))

    ours = gradients(lambda *tensors: backend.layer_norm(*tensors, 1e-3))
    keras_ = gradients(lambda *tensors: ops.layer_normalization(*tensors, axis=-1, epsilon=1e-3))
    for mine, theirs in zip(ours, keras_, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [40_000, 40_001])  # two elements share a random integer
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_a_share_and_scales_the_rest(rate, size):
    outputs = ops.convert_to_numpy(Dropout(rate, seed=3)(np.ones((1, size), "float32"), training=True))
    kept = outputs != 0
    np.testing.assert_allclose(outputs[kept], 1 / (1 - rate), rtol=1e-4)
    assert abs(kept.mean() - (1 - rate)) < 5 * (rate * (1 - rate) / size) ** 0.5
    halves = kept[0, : size // 2 * 2].reshape(-1, 2)
    both = (1 - rate) ** 2  # the two halves of an integer are independent
    assert abs(halves.all(1).mean() - both) < 5 * (both * (1 - both) / len(halves)) ** 0.5


def test_dropout_depends_on_its_seed_and_its_call_alone():
    x = np.ones((3, 50), "float32")
    first, other = (ops.convert_to_numpy(Dropout(0.5, seed=seed)(x, training=True)) for seed in (1, 2))
    layer = Dropout(0.5, seed=1)
    again, later = (ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != later).any()
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)


@on_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_the_gradient_of_dropout_is_dropped_where_the_output_is(jit_compile):
    import tensorflow as tf

    x, generator = tf.ones((3, 51)), keras.random.SeedGenerator(5)

    @tf.function(jit_compile=jit_compile)
    def both():
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = backend.dropout(x, 0.3, generator)
        return outputs, tape.gradient(outputs, x)

    outputs, gradient = both()
    np.testing.assert_array_equal(outputs, gradient)
    assert 0 < np.count_nonzero(outputs) < outputs.numpy().size


@on_tensorflow
def test_dropout_takes_half_as_many_random_integers_as_elements():
    import tensorflow as tf

    drawn = []
    whole = tf.random.stateless_uniform
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tf.random, "stateless_uniform", lambda shape, *a, **k: drawn.append(shape) or whole(shape, *a, **k)
        )
        backend.dropout(tf.ones((7, 9)), 0.1, keras.random.SeedGenerator(1))
    assert int(np.sum(drawn)) == 32
