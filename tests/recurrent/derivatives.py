"""Gradients of a layer on each backend."""

import keras
import pytest
from keras import ops

in_float64 = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="Keras' tanh is float32 on JAX, its products are on PyTorch"
)


def derivative(layer, inputs, memory, **named):
    """The gradients of the sum of squared outputs by the memory and the trainable weights, as arrays."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        memory = tf.constant(memory)
        with tf.GradientTape() as tape:
            tape.watch(memory)
            loss = tf.reduce_sum(tf.square(layer(inputs, memory, **named)))
        found = tape.gradient(loss, [memory, *(weight.value for weight in layer.trainable_weights)])
    elif keras.config.backend() == "jax":
        import jax

        def compute(memory, weights):
            others = [weight.value for weight in layer.non_trainable_variables]
            outputs, _ = layer.stateless_call(weights, others, inputs, memory, **named)
            return (outputs**2).sum()

        weights = [weight.value for weight in layer.trainable_weights]
        one, others = jax.grad(compute, (0, 1))(jax.numpy.asarray(memory), weights)
        found = [one, *others]
    else:
        import torch

        memory = torch.tensor(memory, requires_grad=True)
        loss = (layer(inputs, memory, **named) ** 2).sum()
        found = torch.autograd.grad(loss, [memory, *(weight.value for weight in layer.trainable_weights)])
    return [ops.convert_to_numpy(gradient) for gradient in found]
