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


def product(left, right, transpose_left=False, transpose_right=False):
    """As the TensorFlow adapter's `product`."""
    narrow = min(left.dtype, right.dtype, key=lambda dtype: dtype.itemsize)
    wide = jax.numpy.promote_types("float32", narrow)
    left = left.swapaxes(-1, -2) if transpose_left else left
    right = right.swapaxes(-1, -2) if transpose_right else right
    return jax.numpy.matmul(left.astype(narrow), right.astype(narrow), preferred_element_type=wide)


def value_of(tensor):
    """As the TensorFlow adapter's `value_of`."""
    return tensor
