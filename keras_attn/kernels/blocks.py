"""Cutting sequences into blocks, and joining them again."""

from keras import ops


def num_blocks(length, size):
    """Returns how many blocks cover a sequence: at least one, though it be empty."""
    count = -(-length // size)
    return max(count, 1) if isinstance(count, int) else ops.maximum(count, 1)


def block_sizes(target_length, source_length, best):
    """Returns the sizes of query and key blocks: the `best` ones, less for short sequences."""
    return tuple(
        size if length is None else min(size, max(1, -(-length // 8) * 8))
        for size, length in zip(best, (target_length, source_length))
    )


def to_blocks(tensor, size):
    """`[B, H, T, X]` -> `[I, B, H, size, X]`, zeros behind the end."""
    batch, heads, length, width = ops.shape(tensor)
    count = num_blocks(length, size)
    tensor = ops.pad(tensor, [[0, 0], [0, 0], [0, count * size - length], [0, 0]])
    tensor = ops.reshape(tensor, (batch, heads, count, size, width))
    return ops.transpose(tensor, (2, 0, 1, 3, 4))


def from_blocks(blocks, length):
    """Undoes `to_blocks`."""
    count, batch, heads, size, width = ops.shape(blocks)
    tensor = ops.reshape(ops.transpose(blocks, (1, 2, 0, 3, 4)), (batch, heads, count * size, width))
    return tensor[:, :, :length]


def cut(tensor, axis, size, front, fill):
    """Cuts an axis into blocks of `size`: their number takes the place of axis `front`, whose size is 1."""
    shape = ops.shape(tensor)
    count = num_blocks(shape[axis], size)
    padding = [[0, 0]] * len(shape)
    padding[axis] = [0, count * size - shape[axis]]
    tensor = ops.pad(tensor, padding, constant_values=fill)
    tensor = ops.reshape(tensor, (*shape[:axis], count, size, *shape[axis + 1 :]))
    return ops.squeeze(ops.moveaxis(tensor, axis, front), front + 1)
