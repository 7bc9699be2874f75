"""The adapter of PyTorch, which runs eagerly: the loops are loops of Python."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch
from keras import ops, tree
from torch.autograd.function import once_differentiable

from keras_attn.backend.static_shapes import dropout, gather_rows, has_free_shapes, layer_norm, real_rows  # noqa: F401
from keras_attn.base.types import State, Tensor

has_fused = True
has_later_gradient = True


def scan(
    step: Callable[[State, State], tuple[State, State]], carry: State, inputs: State, like: State
) -> tuple[State, State]:
    """As the TensorFlow adapter's `scan`."""
    steps = []
    for index in range(tree.flatten(inputs)[0].shape[0]):
        carry, outputs = step(carry, tree.map_structure(lambda tensor, index=index: tensor[index], inputs))
        steps.append(outputs)
    if not steps:
        return carry, tree.map_structure(lambda tensor: ops.zeros((0, *tensor.shape), tensor.dtype), like)
    return carry, tree.map_structure(lambda *outputs: ops.stack(outputs), *steps)


def is_concrete(tensor: Tensor) -> bool:
    """Returns whether the tensor's values can be read now."""
    return tensor.device.type != "meta"


def fori(low: Tensor, high: Tensor, body: Callable[[Tensor, State], State], carry: State) -> State:
    """As the TensorFlow adapter's `fori`."""
    for index in range(int(low), int(high)):
        carry = body(index, carry)
    return carry


def zero_blocks(blocks: Tensor) -> Tensor:
    """As the TensorFlow adapter's `zero_blocks`."""
    return ops.zeros_like(blocks)


def add_to_block(sums: Tensor, index: Tensor, value: Tensor) -> Tensor:
    """As the TensorFlow adapter's `add_to_block`."""
    sums[index] += value
    return sums


def stack_blocks(sums: Tensor) -> Tensor:
    """As the TensorFlow adapter's `stack_blocks`."""
    return sums


def block_uniform(shape: Sequence[int | Tensor], seed: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """As the TensorFlow adapter's `block_uniform`."""
    first, second = (int(part) for part in seed)
    generator = torch.Generator(device=seed.device).manual_seed(hash((first, second, int(row), int(column))))
    return torch.rand(tuple(shape), generator=generator, device=seed.device, dtype=torch.float32)


def product(left: Tensor, right: Tensor, transpose_left: bool = False, transpose_right: bool = False) -> Tensor:
    """As the TensorFlow adapter's `product`."""
    dtype = torch.float64 if torch.float64 in (left.dtype, right.dtype) else torch.float32
    left = left.mT if transpose_left else left
    right = right.mT if transpose_right else right
    return left.to(dtype) @ right.to(dtype)


def value_of(tensor: Tensor) -> Tensor:
    """As the TensorFlow adapter's `value_of`."""
    return tensor


def in_xla() -> bool:
    """As the TensorFlow adapter's `in_xla`: always false."""
    return False


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
    """PyTorch's `scaled_dot_product_attention`; arguments as the JAX adapter's `fused`, up to `is_causal`."""
    del window, query_mask, key_mask
    mask = visible
    if bias is not None:
        bias = bias.to(query.dtype)
        mask = bias if visible is None else torch.where(visible, bias, float("-inf"))
    if mask is not None:
        mask = mask.reshape((1,) * (4 - mask.ndim) + tuple(mask.shape))
        mask = mask.expand(query.shape[0], -1, query.shape[2], key.shape[2])
    return torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        scale=scale,
        is_causal=is_causal,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def fused_is_linear(query: Tensor, masked: bool, biased: bool) -> bool:
    """As the JAX adapter's `fused_is_linear`: a mask has one entry for all heads, a bias is as large as the scores."""
    del query, masked
    return not biased


def fused_skips(query: Tensor) -> bool:
    """As the JAX adapter's `fused_skips`: SDPA takes no window and no lengths."""
    del query
    return False


def device_kind(tensor: Tensor | None = None) -> str:
    """As the TensorFlow adapter's `device_kind`; the device "meta", whose tensors have no values, counts as a CPU."""
    kind = (tensor if isinstance(tensor, torch.Tensor) else ops.zeros((), "float32")).device.type
    return {"cuda": "gpu", "meta": "cpu"}.get(kind, kind)


class _WithGradient(torch.autograd.Function):
    """`with_gradient`. What a call needs is in its context: PyTorch never frees classes made for a call."""

    @staticmethod
    def forward(
        context: Any,
        function: Callable[..., tuple[Tensor, State]],
        gradient: Callable[..., tuple[Tensor, ...]],
        *tensors: Tensor,
    ) -> Tensor:
        outputs, kept = function(*tensors)
        flat = tree.flatten(kept)
        context.save_for_backward(*flat, *tensors)
        context.gradient, context.number = gradient, len(flat)
        context.structure = tree.map_structure(lambda _: 0, kept)
        return outputs

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        saved = context.saved_tensors
        kept = tree.pack_sequence_as(context.structure, saved[: context.number])
        return (None, None, *context.gradient(upstream, kept, *saved[context.number :]))


def with_gradient(
    function: Callable[..., tuple[Tensor, State]], gradient: Callable[..., tuple[Tensor, ...]], *tensors: Tensor
) -> Tensor:
    """As the TensorFlow adapter's `with_gradient`."""
    return _WithGradient.apply(function, gradient, *tensors)


class _WithLaterGradient(torch.autograd.Function):
    """`with_later_gradient`."""

    @staticmethod
    def forward(
        context: Any, gradient: Callable[[Tensor], tuple[Tensor, ...]], value: Tensor, *weights: Tensor
    ) -> Tensor:
        context.gradient = gradient
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (None, upstream, *context.gradient(upstream))


def with_later_gradient(
    value: Tensor, weights: tuple[Tensor, ...], gradient: Callable[[Tensor], tuple[Tensor, ...]]
) -> Tensor:
    """As the TensorFlow adapter's `with_later_gradient`."""
    return _WithLaterGradient.apply(gradient, value, *weights)


def tanh_gradient(outputs: Tensor, upstream: Tensor) -> Tensor:
    """As the TensorFlow adapter's `tanh_gradient`."""
    return torch.ops.aten.tanh_backward(upstream, outputs)


def write_rows(table: Tensor, rows: Tensor, values: Tensor, in_place: bool) -> Tensor:
    """As the TensorFlow adapter's `write_rows`."""
    return table.index_put_((rows,), values) if in_place else table.index_put((rows,), values)


def while_loop(condition: Callable[[State], Tensor], body: Callable[[State], State], carry: State) -> State:
    """As the TensorFlow adapter's `while_loop`."""
    while condition(carry):
        carry = body(carry)
    return carry


def no_gradient() -> contextlib.AbstractContextManager[None]:
    """As the TensorFlow adapter's `no_gradient`."""
    return torch.no_grad()


def compiled(
    model: keras.Model, function: Callable[..., State], examples: Sequence[Tensor | None], jit_compile: bool
) -> Callable[..., State]:
    """As the TensorFlow adapter's `compiled`: PyTorch runs the function eagerly."""
    return function


def copy(tensor: Tensor) -> Tensor:
    """As the TensorFlow adapter's `copy`."""
    return tensor.clone()


def random_seed() -> Tensor:
    """As the TensorFlow adapter's `random_seed`."""
    return ops.cast(keras.random.randint((2,), 0, 2**31 - 1, dtype="int32"), "uint32")
