"""The loop over time: outputs, structures, and gradients with respect to tensors of its closure."""

import numpy as np
import pytest
from keras import ops

from keras_attn.backend import is_concrete, scan


def running_sum(xs, factor):
    def step(carry, x):
        total = carry["total"] + factor * x
        return {"total": total}, {"sums": total, "twice": 2 * total}

    zeros = ops.zeros(ops.shape(xs)[1:])
    return scan(step, {"total": zeros}, xs, {"sums": zeros, "twice": zeros})


def test_carries_and_stacks(rng):
    xs = rng.normal(size=(5, 2, 3)).astype("float32")
    last, outputs = running_sum(ops.convert_to_tensor(xs), 1.0)
    np.testing.assert_allclose(outputs["sums"], np.cumsum(xs, 0), atol=1e-6)
    np.testing.assert_allclose(outputs["twice"], 2 * np.cumsum(xs, 0), atol=1e-6)
    np.testing.assert_allclose(last["total"], xs.sum(0), atol=1e-6)


def test_one_step(rng):
    xs = rng.normal(size=(1, 2, 3)).astype("float32")
    _, outputs = running_sum(ops.convert_to_tensor(xs), 1.0)
    np.testing.assert_allclose(outputs["sums"], xs, atol=1e-6)


@pytest.mark.tensorflow  # gradient tape of TensorFlow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_reach_the_closure(jit_compile, rng):
    import tensorflow as tf

    xs = tf.constant(rng.normal(size=(5, 2, 3)).astype("float32"))

    @tf.function(jit_compile=jit_compile)
    def gradient(xs, factor):
        with tf.GradientTape() as tape:
            tape.watch(factor)
            last, _ = running_sum(xs, factor)
            loss = tf.reduce_sum(last["total"] ** 2)
        return tape.gradient(loss, factor)

    wanted = 2 * 3.0 * np.sum(np.sum(xs.numpy(), 0) ** 2)
    np.testing.assert_allclose(gradient(xs, tf.constant(3.0)), wanted, rtol=1e-5)


@pytest.mark.tensorflow  # graphs of TensorFlow
def test_concrete_means_not_in_a_graph():
    import tensorflow as tf

    assert is_concrete(tf.constant(1))
    seen = []
    tf.function(lambda x: seen.append(is_concrete(x)))(tf.constant(1))
    assert seen == [False]
