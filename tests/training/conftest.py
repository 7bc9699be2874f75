"""What the tests of the training room share: gradients on every backend, compiled in every way it has."""

import keras
import numpy as np
import pytest
from keras import ops

MODES = {"tensorflow": ["eager", "graph", "xla"], "jax": ["eager", "xla"], "torch": ["eager"]}[keras.config.backend()]


@pytest.fixture(params=MODES)
def mode(request):
    """How a function is run: eagerly, in a graph of free sizes, under XLA."""
    return request.param


@pytest.fixture
def run(mode):
    """Runs a function of arrays the way of the mode, and returns its results as arrays."""

    def run(function, *arrays):
        if keras.config.backend() == "tensorflow" and mode != "eager":
            import tensorflow as tf

            free = [tf.TensorSpec([None] * (np.ndim(x) - 1) + [np.shape(x)[-1]], np.asarray(x).dtype) for x in arrays]
            signature = free if mode == "graph" else None
            function = tf.function(function, input_signature=signature, jit_compile=mode == "xla")
        if keras.config.backend() == "jax" and mode == "xla":
            import jax

            function = jax.jit(function)
        return keras.tree.map_structure(ops.convert_to_numpy, function(*map(ops.convert_to_tensor, arrays)))

    return run


@pytest.fixture
def run_with_gradient(run):
    """Runs a function of one array; returns the value and the gradient of its sum."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        def compute(function, x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x)
            return value, tape.gradient(value, x)

    elif keras.config.backend() == "jax":
        import jax

        def compute(function, x):
            return function(x), jax.grad(lambda x: ops.sum(function(x)))(x)

    else:
        import torch

        def compute(function, x):
            with torch.enable_grad():
                x = x.clone().requires_grad_()
                value = function(x)
                value.sum().backward()
            return value.detach(), x.grad

    return lambda function, x: run(lambda x: compute(function, x), x)
