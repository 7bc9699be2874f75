"""PyTorch: runs as it goes, so the loops are Python's."""

import keras
import torch
import torch.utils.checkpoint
from keras import ops, tree

has_fused = True


def scan(step, carry, inputs, like):
    """As the TensorFlow adapter's `scan`."""
    steps = []
    for index in range(tree.flatten(inputs)[0].shape[0]):
        carry, outputs = step(carry, tree.map_structure(lambda tensor, index=index: tensor[index], inputs))
        steps.append(outputs)
    if not steps:
        return carry, tree.map_structure(lambda tensor: ops.zeros((0, *tensor.shape), tensor.dtype), like)
    return carry, tree.map_structure(lambda *outputs: ops.stack(outputs), *steps)


def is_concrete(tensor):
    """Returns whether the tensor's values can be read now."""
    return tensor.device.type != "meta"


def fori(low, high, body, carry):
    """As the TensorFlow adapter's `fori`."""
    for index in range(int(low), int(high)):
        carry = body(index, carry)
    return carry


def zero_blocks(blocks):
    """As the TensorFlow adapter's `zero_blocks`."""
    return ops.zeros_like(blocks)


def add_to_block(sums, index, value):
    """As the TensorFlow adapter's `add_to_block`."""
    sums[index] += value
    return sums


def stack_blocks(sums):
    """As the TensorFlow adapter's `stack_blocks`."""
    return sums


def block_uniform(shape, seed, row, column):
    """As the TensorFlow adapter's `block_uniform`."""
    first, second = (int(part) for part in seed)
    generator = torch.Generator(device=seed.device).manual_seed(hash((first, second, int(row), int(column))))
    return torch.rand(tuple(shape), generator=generator, device=seed.device, dtype=torch.float32)


def product(left, right, transpose_left=False, transpose_right=False):
    """As the TensorFlow adapter's `product`."""
    dtype = torch.float64 if torch.float64 in (left.dtype, right.dtype) else torch.float32
    left = left.mT if transpose_left else left
    right = right.mT if transpose_right else right
    return left.to(dtype) @ right.to(dtype)


def value_of(tensor):
    """As the TensorFlow adapter's `value_of`."""
    return tensor


def in_xla():
    """As the TensorFlow adapter's `in_xla`: never."""
    return False


def fused(query, key, value, visible, bias, scale, is_causal=False):
    """PyTorch's `scaled_dot_product_attention`; arguments as the JAX adapter's `fused`."""
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


def fused_is_linear(query, masked, biased):
    """As the JAX adapter's `fused_is_linear`: a mask is shared by the heads, a bias is as large as the scores."""
    del query, masked
    return not biased


def device_kind(tensor=None):
    """As the TensorFlow adapter's `device_kind`; shapes alone, without a device, count as the CPU's."""
    kind = (tensor if torch.is_tensor(tensor) else ops.zeros((), "float32")).device.type
    return {"cuda": "gpu", "meta": "cpu"}.get(kind, kind)


def recompute(function, *tensors):
    """As the TensorFlow adapter's `recompute`."""
    return torch.utils.checkpoint.checkpoint(function, *tensors, use_reentrant=False)


def write_rows(table, rows, values, in_place):
    """As the TensorFlow adapter's `write_rows`."""
    return table.index_put_((rows,), values) if in_place else table.index_put((rows,), values)


def while_loop(goes_on, body, carry):
    """As the TensorFlow adapter's `while_loop`."""
    while goes_on(carry):
        carry = body(carry)
    return carry


def no_gradient():
    """As the TensorFlow adapter's `no_gradient`."""
    return torch.no_grad()


def compiled(model, function, examples, jit_compile):
    """As the TensorFlow adapter's `compiled`: PyTorch runs as it goes."""
    return function


def copy(tensor):
    """As the TensorFlow adapter's `copy`."""
    return tensor.clone()


def random_seed():
    """As the TensorFlow adapter's `random_seed`."""
    return ops.cast(keras.random.randint((2,), 0, 2**31 - 1, dtype="int32"), "uint32")
