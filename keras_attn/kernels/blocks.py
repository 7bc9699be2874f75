"""Cuts sequences into blocks, and joins the blocks again."""

from __future__ import annotations

from keras import ops

from keras_attn.base.types import Tensor


def num_blocks(length: int | Tensor, size: int) -> int | Tensor:
    """Returns how many blocks cover a sequence: at least one, even if it is empty."""
    count = -(-length // size)
    return max(count, 1) if isinstance(count, int) else ops.maximum(count, 1)


def block_size(length: int | None, best: int) -> int:
    """Returns the size of the blocks of a sequence: `best`, or less if the sequence is short."""
    return best if length is None else min(best, max(1, -(-length // 8) * 8))


def to_blocks(tensor: Tensor, size: int) -> Tensor:
    """`[B, H, T, X]` -> `[I, B, H, size, X]`, padded with zeros at the end."""
    batch, heads, length, width = ops.shape(tensor)
    count = num_blocks(length, size)
    tensor = ops.pad(tensor, [[0, 0], [0, 0], [0, count * size - length], [0, 0]])
    tensor = ops.reshape(tensor, (batch, heads, count, size, width))
    return ops.transpose(tensor, (2, 0, 1, 3, 4))


def from_blocks(blocks: Tensor, length: int | Tensor) -> Tensor:
    """`[I, B, H, size, X]` -> `[B, H, length, X]`, the inverse of `to_blocks`."""
    count, batch, heads, size, width = ops.shape(blocks)
    tensor = ops.reshape(ops.transpose(blocks, (1, 2, 0, 3, 4)), (batch, heads, count * size, width))
    return tensor[:, :, :length]


def cut_axis(tensor: Tensor, axis: int, size: int, front: int, fill: int) -> Tensor:
    """Cuts an axis into blocks of `size`, padded with `fill`; axis `front`, of size 1, becomes the axis of blocks."""
    shape = ops.shape(tensor)
    count = num_blocks(shape[axis], size)
    padding = [[0, 0]] * len(shape)
    padding[axis] = [0, count * size - shape[axis]]
    tensor = ops.pad(tensor, padding, constant_values=fill)
    tensor = ops.reshape(tensor, (*shape[:axis], count, size, *shape[axis + 1 :]))
    return ops.squeeze(ops.moveaxis(tensor, axis, front), front + 1)
