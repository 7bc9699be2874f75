"""Biases, which are added to the scores. They can be computed tile by tile, not only for all scores at once.

A bias holds the tensors of one call, as call masks do. If one of them is trained, its gradient is a sum
over the tiles: `start`, `add` for each tile, `finish`.
"""

from __future__ import annotations

import dataclasses

from keras import ops

from keras_attn import masks
from keras_attn.backend import add_to_block, stack_blocks, zero_blocks
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.tensors import to_tensor
from keras_attn.base.types import ArrayLike, State, Tensor
from keras_attn.kernels.tiling import Tile, Tiling


class Bias:
    """The base class of all biases.

    Attributes:
        tensor: The trained tensor, or None.
    """

    tensor: Tensor | None = None

    def cells(self, tensor: Tensor | None, grid: masks.Grid) -> Tensor:
        """Returns what is added to the grid's scores, in float32 or wider; it broadcasts to `[B, H, t, s]`.

        Args:
            tensor: Used in place of `self.tensor`, so that gradients with respect to it can be computed.
            grid: The grid of all scores, or of a tile.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `cells(tensor, grid)`.")

    def start(self, tensor: Tensor, tiling: Tiling) -> State:
        """Returns the initial carry of the gradient's sum over the tiles."""
        del tensor, tiling
        return ()

    def add(self, carry: State, cell_grads: Tensor, tensor: Tensor, tile: Tile) -> State:
        """Returns the carry after a tile whose cells have the gradients `cell_grads` `[B, H, t, s]`."""
        del cell_grads, tensor, tile
        return carry

    def finish(self, carry: State, tensor: Tensor, tiling: Tiling) -> Tensor:
        """Returns the gradient with respect to `tensor`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `finish(carry, tensor, tiling)`.")


@dataclasses.dataclass(frozen=True)
class TensorBias(Bias):
    """A bias given as a tensor of four axes that broadcasts to `[B, H, T, S]`."""

    tensor: Tensor

    def cells(self, tensor: Tensor, grid: masks.Grid) -> Tensor:
        return ops.cast(grid.cells(tensor), at_least_float32(tensor.dtype))

    def mask(self) -> masks.Mask:
        """Returns the mask that hides the cells whose bias is minus infinity."""
        return _Finite(self.tensor)

    def start(self, tensor: Tensor, tiling: Tiling) -> State:
        sizes = zip(tensor.shape[2:], (tiling.query_block, tiling.key_block))
        tile = [1 if length == 1 else size for length, size in sizes]
        count = tiling.num_rows * tiling.num_columns
        return zero_blocks(ops.zeros((count, *ops.shape(tensor)[:2], *tile), at_least_float32(tensor.dtype)))

    def add(self, carry: State, cell_grads: Tensor, tensor: Tensor, tile: Tile) -> State:
        summed = ops.sum(cell_grads, axis=[axis for axis in range(4) if tensor.shape[axis] == 1], keepdims=True)
        return add_to_block(carry, tile.number, summed)

    def finish(self, carry: State, tensor: Tensor, tiling: Tiling) -> Tensor:
        """Returns the gradient, joined from the tiles `[I * J, b, h, t, s]`."""
        tiles = stack_blocks(carry)
        tiles = ops.reshape(tiles, (tiling.num_rows, tiling.num_columns, *ops.shape(tiles)[1:]))
        tiles = ops.sum(tiles, axis=0, keepdims=True) if tensor.shape[2] == 1 else tiles
        tiles = ops.sum(tiles, axis=1, keepdims=True) if tensor.shape[3] == 1 else tiles
        tiles = ops.transpose(tiles, (2, 3, 0, 4, 1, 5))  # [b, h, I, t, J, s]
        shape = ops.shape(tiles)
        joined = ops.reshape(tiles, (*shape[:2], shape[2] * shape[3], shape[4] * shape[5]))
        return joined[:, :, : ops.shape(tensor)[2], : ops.shape(tensor)[3]]


class _Finite(masks.Mask):
    """Hides the cells at which a bias is minus infinity."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def visible(self, grid: masks.Grid) -> Tensor:
        return grid.cells(self.tensor) > float("-inf")


@dataclasses.dataclass(frozen=True)
class DistanceBias(Bias):
    """The base class of biases that depend on the distance of key and query.

    Attributes:
        query_positions, key_positions: Integers `[B, T]` and `[B, S]`; None means their indices.
    """

    query_positions: ArrayLike | None = None
    key_positions: ArrayLike | None = None

    def distances(self, grid: masks.Grid) -> Tensor:
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

    slopes: ArrayLike = ()

    def cells(self, tensor: Tensor | None, grid: masks.Grid) -> Tensor:
        del tensor
        distances = ops.cast(ops.abs(self.distances(grid)), "float32")
        return distances * -ops.reshape(ops.convert_to_tensor(self.slopes, dtype="float32"), (1, -1, 1, 1))


@dataclasses.dataclass(frozen=True)
class BucketBias(DistanceBias):
    """`table[bucket(distance), h]`, a learned number per head and bucket of distances.

    Attributes:
        tensor: The table `[R, H]`, a tensor.
        buckets: Integers `[2 M + 1]`, the buckets of the distances -M ... M; larger distances are clipped.
    """

    tensor: Tensor = None
    buckets: ArrayLike = ()

    def cells(self, tensor: Tensor, grid: masks.Grid) -> Tensor:
        buckets = to_tensor("buckets", self.buckets, "int32")
        by_distance = ops.take(ops.cast(tensor, at_least_float32(tensor.dtype)), buckets, axis=0)  # [2 M + 1, H]
        return ops.transpose(ops.take(by_distance, self._places(grid), axis=0), (0, 3, 1, 2))  # [B or 1, H, t, s]

    def start(self, tensor: Tensor, tiling: Tiling) -> State:
        del tiling
        return ops.zeros((len(self.buckets), tensor.shape[1]), at_least_float32(tensor.dtype))

    def add(self, carry: State, cell_grads: Tensor, tensor: Tensor, tile: Tile) -> State:
        places = self._places(tile)
        summed = ops.sum(cell_grads, axis=0, keepdims=True) if places.shape[0] == 1 else cell_grads
        rows = ops.reshape(ops.transpose(summed, (0, 2, 3, 1)), (-1, tensor.shape[1]))  # [B t s, H]
        return carry + ops.segment_sum(ops.cast(rows, carry.dtype), ops.reshape(places, (-1,)), len(self.buckets))

    def finish(self, carry: State, tensor: Tensor, tiling: Tiling) -> Tensor:
        return ops.segment_sum(carry, to_tensor("buckets", self.buckets, "int32"), tensor.shape[0])

    def _places(self, grid: masks.Grid) -> Tensor:
        """Returns the index of each distance of the grid in `buckets`, int32 `[B or 1, t, s]`."""
        furthest = len(self.buckets) // 2
        return ops.clip(self.distances(grid)[:, 0], -furthest, furthest) + furthest
