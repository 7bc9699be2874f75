"""What is added to the scores, made for the tile that a kernel asks for and never for all of them.

A bias holds the tensors of one call, as call masks do. Where one of them is trained, the
kernel's own gradient needs its share of every tile: `start`, `add` for each tile, `finish`.
"""

import dataclasses
from typing import Any

from keras import ops

from keras_attn import masks
from keras_attn.backend import add_to_block, stack_blocks, zero_blocks
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.tensors import to_tensor


class Bias:
    """What all biases share.

    Attributes:
        tensor: What is trained, or None.
    """

    tensor: Any = None

    def cells(self, tensor, grid):
        """Returns what is added to the grid's scores, in float32 or wider; it broadcasts to `[B, H, t, s]`.

        Args:
            tensor: Stands for `self.tensor`, so that a gradient can be taken by it.
            grid: A `masks.Grid`: all of the plane, or a tile.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `cells(tensor, grid)`.")

    def start(self, tensor, tiling):
        """Returns the carry of the gradient's sum over tiles before the first of them."""
        del tensor, tiling
        return ()

    def add(self, carry, cell_grads, tensor, tile):
        """Returns the carry after a tile whose cells have the gradients `[B, H, t, s]`."""
        del cell_grads, tensor, tile
        return carry

    def finish(self, carry, tensor, tiling):
        """Returns the gradient by `tensor`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `finish(carry, tensor, tiling)`.")


@dataclasses.dataclass(frozen=True)
class TensorBias(Bias):
    """A bias given as a tensor of four axes that broadcasts to `[B, H, T, S]`."""

    tensor: Any

    def cells(self, tensor, grid):
        return ops.cast(grid.cells(tensor), at_least_float32(tensor.dtype))

    def mask(self):
        """Returns the mask of what the bias does not hide by minus infinity."""
        return _Finite(self.tensor)

    def start(self, tensor, tiling):
        sizes = zip(tensor.shape[2:], (tiling.query_block, tiling.key_block))
        tile = [1 if length == 1 else size for length, size in sizes]
        count = tiling.num_rows * tiling.num_columns
        return zero_blocks(ops.zeros((count, *ops.shape(tensor)[:2], *tile), at_least_float32(tensor.dtype)))

    def add(self, carry, cell_grads, tensor, tile):
        summed = ops.sum(cell_grads, axis=[axis for axis in range(4) if tensor.shape[axis] == 1], keepdims=True)
        return add_to_block(carry, tile.number, summed)

    def finish(self, carry, tensor, tiling):
        """Lays the tiles `[I * J, b, h, t, s]` side by side."""
        tiles = stack_blocks(carry)
        tiles = ops.reshape(tiles, (tiling.num_rows, tiling.num_columns, *ops.shape(tiles)[1:]))
        tiles = ops.sum(tiles, axis=0, keepdims=True) if tensor.shape[2] == 1 else tiles
        tiles = ops.sum(tiles, axis=1, keepdims=True) if tensor.shape[3] == 1 else tiles
        tiles = ops.transpose(tiles, (2, 3, 0, 4, 1, 5))  # [b, h, I, t, J, s]
        shape = ops.shape(tiles)
        joined = ops.reshape(tiles, (*shape[:2], shape[2] * shape[3], shape[4] * shape[5]))
        return joined[:, :, : ops.shape(tensor)[2], : ops.shape(tensor)[3]]


class _Finite(masks.Mask):
    """Hides what a bias sets to minus infinity, as a mask does."""

    def __init__(self, tensor):
        self.tensor = tensor

    def visible(self, grid):
        return grid.cells(self.tensor) > float("-inf")


@dataclasses.dataclass(frozen=True)
class DistanceBias(Bias):
    """What biases by the distance of key and query share.

    Attributes:
        query_positions, key_positions: Integers `[B, T]` and `[B, S]`; None means their indices.
    """

    query_positions: Any = None
    key_positions: Any = None

    def distances(self, grid):
        """Returns key position minus query position, int32 `[B or 1, 1, t, s]`."""
        if self.query_positions is None:
            return grid.key_index - grid.query_index
        queries, keys = (to_tensor("positions", part, "int32") for part in (self.query_positions, self.key_positions))
        return grid.keys(keys) - grid.queries(queries)


@dataclasses.dataclass(frozen=True)
class LinearBias(DistanceBias):
    """`-slope_h * |distance|`.

    Attributes:
        slopes: Numbers `[H]`.
    """

    slopes: Any = ()

    def cells(self, tensor, grid):
        del tensor
        distances = ops.cast(ops.abs(self.distances(grid)), "float32")
        return distances * -ops.reshape(ops.convert_to_tensor(self.slopes, dtype="float32"), (1, -1, 1, 1))


@dataclasses.dataclass(frozen=True)
class BucketBias(DistanceBias):
    """`table[bucket(distance), h]`, a learned number per head and bucket of distances.

    Attributes:
        tensor: The table `[R, H]`, a tensor.
        buckets: Integers `[2 M + 1]`, the buckets of the distances -M ... M; further ones count as M.
    """

    tensor: Any = None
    buckets: Any = ()

    def cells(self, tensor, grid):
        buckets = to_tensor("buckets", self.buckets, "int32")
        by_distance = ops.take(ops.cast(tensor, at_least_float32(tensor.dtype)), buckets, axis=0)  # [2 M + 1, H]
        return ops.transpose(ops.take(by_distance, self._places(grid), axis=0), (0, 3, 1, 2))  # [B or 1, H, t, s]

    def start(self, tensor, tiling):
        del tiling
        return ops.zeros((len(self.buckets), tensor.shape[1]), at_least_float32(tensor.dtype))

    def add(self, carry, cell_grads, tensor, tile):
        places = self._places(tile)
        summed = ops.sum(cell_grads, axis=0, keepdims=True) if places.shape[0] == 1 else cell_grads
        rows = ops.reshape(ops.transpose(summed, (0, 2, 3, 1)), (-1, tensor.shape[1]))  # [B t s, H]
        return carry + ops.segment_sum(ops.cast(rows, carry.dtype), ops.reshape(places, (-1,)), len(self.buckets))

    def finish(self, carry, tensor, tiling):
        return ops.segment_sum(carry, to_tensor("buckets", self.buckets, "int32"), tensor.shape[0])

    def _places(self, grid):
        """Returns where in `buckets` the grid's distances stand, int32 `[B or 1, t, s]`."""
        furthest = len(self.buckets) // 2
        return ops.clip(self.distances(grid)[:, 0], -furthest, furthest) + furthest
