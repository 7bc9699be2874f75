"""JAX: the loop is `lax.scan`."""

import jax


def scan(step, carry, inputs, like):
    """As the TensorFlow adapter's `scan`."""
    del like
    return jax.lax.scan(step, carry, inputs)


def is_concrete(tensor):
    """Returns whether the tensor's values can be read now: not while tracing."""
    return isinstance(tensor, jax.Array) and not isinstance(tensor, jax.core.Tracer)


def fori(low, high, body, carry):
    """As the TensorFlow adapter's `fori`."""
    return jax.lax.fori_loop(low, high, body, carry)


def zero_blocks(blocks):
    """As the TensorFlow adapter's `zero_blocks`."""
    return jax.numpy.zeros_like(blocks)


def add_to_block(sums, index, value):
    """As the TensorFlow adapter's `add_to_block`."""
    return sums.at[index].add(value)


def stack_blocks(sums):
    """As the TensorFlow adapter's `stack_blocks`."""
    return sums


def block_uniform(shape, seed, row, column):
    """As the TensorFlow adapter's `block_uniform`."""
    key = jax.random.wrap_key_data(jax.numpy.asarray(seed, "uint32"), impl="threefry2x32")
    return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, row), column), shape)
