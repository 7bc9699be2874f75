"""The adapter of JAX: the loop is `lax.scan`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import keras

from keras_attn.backend.static_shapes import dropout, gather_rows, has_free_shapes, layer_norm, real_rows  # noqa: F401
from keras_attn.base.types import State, Tensor

has_fused = True
has_later_gradient = False


def scan(
    step: Callable[[State, State], tuple[State, State]], carry: State, inputs: State, like: State
) -> tuple[State, State]:
    """As the TensorFlow adapter's `scan`."""
    del like
    return jax.lax.scan(step, carry, inputs)


def is_concrete(tensor: Tensor) -> bool:
    """Returns whether the tensor's values can be read now: not while tracing."""
    return isinstance(tensor, jax.Array) and not isinstance(tensor, jax.core.Tracer)


def fori(low: Tensor, high: Tensor, body: Callable[[Tensor, State], State], carry: State) -> State:
    """As the TensorFlow adapter's `fori`."""
    return jax.lax.fori_loop(low, high, body, carry)


def zero_blocks(blocks: Tensor) -> Tensor:
    """As the TensorFlow adapter's `zero_blocks`."""
    return jax.numpy.zeros_like(blocks)


def add_to_block(sums: Tensor, index: Tensor, value: Tensor) -> Tensor:
    """As the TensorFlow adapter's `add_to_block`."""
    return sums.at[index].add(value)


def stack_blocks(sums: Tensor) -> Tensor:
    """As the TensorFlow adapter's `stack_blocks`."""
    return sums


def block_uniform(shape: Sequence[int | Tensor], seed: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """As the TensorFlow adapter's `block_uniform`."""
    key = jax.random.wrap_key_data(jax.numpy.asarray(seed, "uint32"), impl="threefry2x32")
    return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, row), column), shape, "float32")


def product(left: Tensor, right: Tensor, transpose_left: bool = False, transpose_right: bool = False) -> Tensor:
    """As the TensorFlow adapter's `product`."""
    narrow = min(left.dtype, right.dtype, key=lambda dtype: dtype.itemsize)
    wide = jax.numpy.promote_types("float32", narrow)
    left = left.swapaxes(-1, -2) if transpose_left else left
    right = right.swapaxes(-1, -2) if transpose_right else right
    return jax.numpy.matmul(left.astype(narrow), right.astype(narrow), preferred_element_type=wide)


def value_of(tensor: Tensor) -> Tensor:
    """As the TensorFlow adapter's `value_of`."""
    return tensor


def in_xla() -> bool:
    """As the TensorFlow adapter's `in_xla`: always true."""
    return True


def fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    bias: Tensor | None,
    scale: float | Tensor,
    is_causal: bool = False,
    window: int | None = None,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
) -> Tensor:
    """JAX's own attention: that of cuDNN on a GPU if it supports the arguments, otherwise that of XLA.

    Args:
        query, key, value: `[B, H, T, K]`, `[B, H_kv, S, K]` twice.
        visible, bias: Broadcast to `[B, H, T, S]`, or None.
        scale: Factor of the scores.
        is_causal: Whether query i sees the keys up to i, for T = S.
        window: How many keys it sees of them, the last ones; None for all. Only with `is_causal`.
        query_mask, key_mask: Booleans `[B or 1, T]` and `[B or 1, S]`, False at padding, or None. Together with
            `is_causal` they must be equal. The outputs of padded queries, and of rows without keys, are undefined.
    """
    cudnn = fused_is_linear(query, masked=visible is not None, biased=bias is not None)
    if not isinstance(scale, float):  # cuDNN takes no tensor
        query, scale = query * jax.numpy.asarray(scale, query.dtype), 1.0
    query, key, value = (heads.swapaxes(1, 2) for heads in (query, key, value))
    queries = None if query_mask is None else RealFirst.of(query_mask, query)
    keys = None if key_mask is None else RealFirst.of(key_mask, key)
    heads = (
        query if queries is None else queries.move(query),
        key if keys is None else keys.move(key),
        value if keys is None else keys.move(value),
    )
    lengths = None if keys is None else keys.lengths
    if cudnn:
        if lengths is None and not is_causal and key.shape[1] % 2:
            lengths = jax.numpy.full(key.shape[:1], key.shape[1], "int32")  # hides the position that `even` adds
        heads = tuple(map(even, heads))
    outputs = jax.nn.dot_product_attention(
        *heads,
        bias=bias,
        mask=visible,
        scale=scale,
        is_causal=is_causal,
        query_seq_lengths=None if queries is None else queries.lengths,
        key_value_seq_lengths=lengths,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="cudnn" if cudnn else "xla",
    )[:, : query.shape[1]]
    outputs = outputs if queries is None else queries.move_back(outputs)
    return outputs.swapaxes(1, 2)


def even(heads: Tensor) -> Tensor:
    """Returns `heads` `[B, T, H, K]` with one more position if T is odd: cuDNN has no gradient for odd lengths."""
    return jax.numpy.pad(heads, ((0, 0), (0, heads.shape[1] % 2), (0, 0), (0, 0)))


class RealFirst(NamedTuple):
    """The order in which the real positions of a row come first, and the padding after them.

    A kernel takes lengths, but a mask need not be one: padding can be at the front, or between real positions.
    Attention does not depend on the order of the keys, and this order keeps that of the real positions.

    Attributes:
        mask: Booleans `[B, T]`, False at padding.
        places: Where each row is read, int32 `[B, T]`.
        back: The inverse of `places`.
        lengths: Number of real positions, int32 `[B]`, but at least 1: cuDNN defines no softmax over nothing.
    """

    mask: Tensor
    places: Tensor
    back: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, mask: Tensor, heads: Tensor) -> RealFirst:
        """Returns the order for `heads` `[B, T, H, K]` with a mask `[B or 1, T]`."""
        mask = jax.numpy.broadcast_to(mask, heads.shape[:2])
        real = jax.numpy.cumsum(mask, axis=1, dtype="int32")
        padded = jax.numpy.cumsum(~mask, axis=1, dtype="int32")
        back = jax.numpy.where(mask, real, real[:, -1:] + padded) - 1
        rows, columns = (jax.lax.broadcasted_iota("int32", mask.shape, axis) for axis in (0, 1))
        places = columns.at[rows, back].set(columns, unique_indices=True, mode="promise_in_bounds")
        return cls(mask, places, back, jax.numpy.maximum(real[:, -1], 1))

    def move(self, heads: Tensor) -> Tensor:
        """Returns `heads` in this order, with zeros, and zero gradients, at padding."""
        return take_rows(jax.numpy.where(self.mask[:, :, None, None], heads, 0), self.places)

    def move_back(self, heads: Tensor) -> Tensor:
        """Returns `heads` in the order before `move`."""
        return take_rows(heads, self.back)


def take_rows(heads: Tensor, places: Tensor) -> Tensor:
    """Returns `heads[b, places[b, t]]` for heads `[B, T, H, K]` and a permutation in each row, `[B, T]`."""
    rows = jax.lax.broadcasted_iota("int32", places.shape, 0)
    return heads.at[rows, places].get(unique_indices=True, mode="promise_in_bounds")


def fused_is_linear(query: Tensor, masked: bool, biased: bool) -> bool:
    """Returns whether the memory of `fused` is linear in length, as that of cuDNN's kernel is.

    Args:
        query: `[B, H, T, K]`.
        masked: Whether there is a mask, in place of options of `fused`.
        biased: Whether there is a bias.
    """
    return not masked and not biased and fused_skips(query)


def fused_skips(query: Tensor) -> bool:
    """Returns whether `fused` takes windows and padding masks for queries `[B, H, T, K]`, as cuDNN's kernel does."""
    narrow = query.dtype.itemsize == 2 and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128
    if not narrow or jax.default_backend() != "gpu":
        return False
    capability = jax.local_devices(backend="gpu")[0].compute_capability  # "9.0", or "gfx90a" for a GPU without cuDNN
    return capability.replace(".", "").isdigit() and float(capability) >= 8


def device_kind(tensor: Tensor | None = None) -> str:
    """As the TensorFlow adapter's `device_kind`; tracers run on the default device."""
    default = getattr(jax.config, "jax_default_device", None)  # its type does not declare the flags
    if tensor is not None and is_concrete(tensor):
        platform = next(iter(tensor.devices())).platform
    elif default is None:
        platform = jax.default_backend()
    else:
        platform = default if isinstance(default, str) else default.platform
    return {"cuda": "gpu", "rocm": "gpu"}.get(platform, platform)


def with_gradient(
    function: Callable[..., tuple[Tensor, State]], gradient: Callable[..., tuple[Tensor, ...]], *tensors: Tensor
) -> Tensor:
    """As the TensorFlow adapter's `with_gradient`."""

    def forward(*tensors: Tensor) -> tuple[Tensor, tuple[State, tuple[Tensor, ...]]]:
        outputs, kept = function(*tensors)
        return outputs, (kept, tensors)

    run = jax.custom_vjp(lambda *tensors: function(*tensors)[0])
    run.defvjp(forward, lambda kept, upstream: tuple(gradient(upstream, kept[0], *kept[1])))
    return run(*tensors)


def with_later_gradient(
    value: Tensor, weights: tuple[Tensor, ...], gradient: Callable[[Tensor], tuple[Tensor, ...]]
) -> Tensor:
    """Not there (`has_later_gradient`): JAX traces a backward pass apart from what follows the value."""
    raise NotImplementedError


def tanh_gradient(outputs: Tensor, upstream: Tensor) -> Tensor:
    """As the TensorFlow adapter's `tanh_gradient`."""
    return upstream * (1 - outputs * outputs)


def write_rows(table: Tensor, rows: Tensor, values: Tensor, in_place: bool) -> Tensor:
    """As the TensorFlow adapter's `write_rows`; XLA itself writes in place inside a compiled loop."""
    return table.at[rows].set(values)


def while_loop(condition: Callable[[State], Tensor], body: Callable[[State], State], carry: State) -> State:
    """As the TensorFlow adapter's `while_loop`."""

    def turn(carry: State) -> State:  # with 64 bits enabled, JAX sums integers in a wider dtype
        return jax.tree.map(lambda new, old: jax.numpy.asarray(new).astype(old.dtype), body(carry), carry)

    return jax.lax.while_loop(condition, turn, jax.tree.map(jax.numpy.asarray, carry))


def no_gradient() -> contextlib.AbstractContextManager[None]:
    """As the TensorFlow adapter's `no_gradient`."""
    return contextlib.nullcontext()


def compiled(
    model: keras.Model, function: Callable[..., State], examples: Sequence[Tensor | None], jit_compile: bool
) -> Callable[..., State]:
    """As the TensorFlow adapter's `compiled`, but traced again for each shape, and always compiled by XLA."""

    @jax.jit
    def run(values: list[Tensor], *tensors: Tensor) -> State:
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values))):
            return function(*tensors)

    return lambda *tensors: run([variable.value for variable in model.variables], *tensors)


def copy(tensor: Tensor) -> Tensor:
    """As the TensorFlow adapter's `copy`: JAX never writes in place."""
    return tensor


def random_seed() -> Tensor:
    """As the TensorFlow adapter's `random_seed`, from Keras' global generator."""
    return keras.random.randint((2,), 0, 2**31 - 1, dtype="int32").astype("uint32")
