"""JAX: the loop is `lax.scan`."""

import contextlib

import jax
import keras

has_fused = True


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
    return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, row), column), shape, "float32")


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


def in_xla():
    """As the TensorFlow adapter's `in_xla`: always."""
    return True


def fused(query, key, value, visible, bias, scale, is_causal=False):
    """JAX's own attention: cuDNN's on a GPU where it takes the case, else XLA's.

    Args:
        query, key, value: `[B, H, T, K]`, `[B, H_kv, S, K]` twice.
        visible, bias: Broadcast to `[B, H, T, S]`, or None.
        scale: Factor of the scores.
        is_causal: Whether query i sees the keys up to i, for T = S.
    """
    cudnn = fused_is_linear(query, masked=visible is not None, biased=bias is not None)
    outputs = jax.nn.dot_product_attention(
        *(heads.swapaxes(1, 2) for heads in (query, key, value)),
        bias=bias,
        mask=visible,
        scale=scale,
        is_causal=is_causal,
        implementation="cudnn" if cudnn else "xla",
    )
    return outputs.swapaxes(1, 2)


def fused_is_linear(query, masked, biased):
    """Returns whether `fused` needs memory linear in length: where cuDNN's kernel takes the case.

    Args:
        query: `[B, H, T, K]`.
        masked: Whether there is a mask beside `is_causal`.
        biased: Whether there is a bias.
    """
    narrow = query.dtype.itemsize == 2 and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128
    if masked or biased or not narrow or jax.default_backend() != "gpu":
        return False
    capability = jax.local_devices(backend="gpu")[0].compute_capability  # "9.0"; "gfx90a" of a GPU that has no cuDNN
    return capability.replace(".", "").isdigit() and float(capability) >= 8


def device_kind(tensor=None):
    """As the TensorFlow adapter's `device_kind`; tracers run on the default device."""
    default = jax.config.jax_default_device
    if is_concrete(tensor):
        platform = next(iter(tensor.devices())).platform
    elif default is None:
        platform = jax.default_backend()
    else:
        platform = default if isinstance(default, str) else default.platform
    return {"cuda": "gpu", "rocm": "gpu"}.get(platform, platform)


def recompute(function, *tensors):
    """As the TensorFlow adapter's `recompute`."""
    return jax.checkpoint(function)(*tensors)


def write_rows(table, rows, values, in_place):
    """As the TensorFlow adapter's `write_rows`; inside a compiled loop XLA writes in place by itself."""
    return table.at[rows].set(values)


def while_loop(goes_on, body, carry):
    """As the TensorFlow adapter's `while_loop`."""

    def turn(carry):  # sums of integers are wider than what they sum, if JAX has 64 bits
        return jax.tree.map(lambda new, old: jax.numpy.asarray(new).astype(old.dtype), body(carry), carry)

    return jax.lax.while_loop(goes_on, turn, jax.tree.map(jax.numpy.asarray, carry))


def no_gradient():
    """As the TensorFlow adapter's `no_gradient`."""
    return contextlib.nullcontext()


def compiled(model, function, examples, jit_compile):
    """As the TensorFlow adapter's `compiled`, but traced anew for each shape, and always by XLA."""

    @jax.jit
    def run(values, *tensors):
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values))):
            return function(*tensors)

    return lambda *tensors: run([variable.value for variable in model.variables], *tensors)


def copy(tensor):
    """As the TensorFlow adapter's `copy`: nothing is ever written in place."""
    return tensor


def random_seed():
    """As the TensorFlow adapter's `random_seed`, by Keras' global generator."""
    return keras.random.randint((2,), 0, 2**31 - 1, dtype="int32").astype("uint32")
