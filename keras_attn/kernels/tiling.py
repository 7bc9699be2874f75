"""Cuts the grid of scores into tiles: a block of queries against a block of keys."""

from __future__ import annotations

import dataclasses

from keras import ops

from keras_attn.base.tensors import shape_of
from keras_attn.base.types import Tensor
from keras_attn.kernels.blocks import block_size, num_blocks
from keras_attn.kernels.indices import AlignedKeys, AlignedQueries, GivenIndices, index_blocks
from keras_attn.masks import Grid, Mask, Rectangle

QUERY_BLOCK, KEY_BLOCK = 256, 512


@dataclasses.dataclass(kw_only=True)
class Tile(Grid):
    """The grid of one tile. Positions after the end of a sequence read its last entry; the tile's mask hides them.

    Attributes:
        rows, columns: Row and column numbers of the tile's queries and keys in the grid of scores, `[t]` and `[s]`.
        row, column: Numbers of its blocks of queries and of keys.
        number: Number of the tile, counted row by row.
    """

    rows: Tensor
    columns: Tensor
    row: int | Tensor
    column: int | Tensor
    number: int | Tensor

    def queries(self, tensor: Tensor) -> Tensor:
        return super().queries(take(tensor, self.rows, 1))

    def keys(self, tensor: Tensor) -> Tensor:
        return super().keys(take(tensor, self.columns, 1))

    def cells(self, tensor: Tensor) -> Tensor:
        shape = (1,) * (4 - len(tensor.shape)) + tuple(shape_of(tensor))
        return take(take(ops.reshape(tensor, shape), self.rows, 2), self.columns, 3)


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How the grid of scores is cut, and which scores of a tile the mask shows.

    Attributes:
        mask: A mask object, or None.
        queries, keys: Indices of the queries and of the keys, by tiles.
        target_length, source_length: T and S, before they are padded to whole blocks.
        query_block, key_block: Sizes of the blocks.
    """

    mask: Mask | None
    queries: AlignedQueries | GivenIndices
    keys: AlignedKeys | GivenIndices
    target_length: int | Tensor
    source_length: int | Tensor
    query_block: int
    key_block: int

    @classmethod
    def of(
        cls, mask: Mask | None, grid: Grid, query: Tensor, key: Tensor, best: tuple[int, int] | None = None
    ) -> Tiling:
        """Cuts the whole grid of `query` `[B, H, T, K]` against `key` `[B, H_kv, S, K]`.

        `best` holds the sizes of the blocks of queries and of keys for long sequences.
        """
        target_length, source_length = shape_of(query)[2], shape_of(key)[2]
        best_query_block, best_key_block = best or (QUERY_BLOCK, KEY_BLOCK)
        sizes = block_size(query.shape[2], best_query_block), block_size(key.shape[2], best_key_block)
        queries, keys = index_blocks(grid, target_length, source_length, *sizes)
        return cls(mask, queries, keys, target_length, source_length, *sizes)

    @property
    def num_rows(self) -> int | Tensor:
        """Number of blocks of queries."""
        return num_blocks(self.target_length, self.query_block)

    @property
    def num_columns(self) -> int | Tensor:
        """Number of blocks of keys."""
        return num_blocks(self.source_length, self.key_block)

    def tile(self, row: int | Tensor, column: int | Tensor) -> Tile:
        """Returns the grid of block `row` of the queries and block `column` of the keys."""
        query_index, query_present = self.queries.tile(row, column)
        key_index, key_present = self.keys.tile(row, column)
        return Tile(
            query_index,
            key_index,
            query_present,
            key_present,
            rows=row * self.query_block + ops.arange(self.query_block, dtype="int32"),
            columns=column * self.key_block + ops.arange(self.key_block, dtype="int32"),
            row=row,
            column=column,
            number=row * self.num_columns + column,
        )

    def visible(self, tile: Tile) -> Tensor:
        """Returns booleans that broadcast to the tile's scores `[B, H, t, s]`."""
        return tile.visible(self.mask)

    def coverage(self, row: int | Tensor) -> tuple[Tensor, Tensor]:
        """Returns whether any and whether all cells of each tile in a row are visible; both broadcast to `[J]`."""
        queries, keys = self.queries.range(row), self.keys.range(row)
        rectangle = Rectangle(queries.low, queries.high, keys.low, keys.high)
        any_visible, all_visible = (True, True) if self.mask is None else self.mask.coverage(rectangle)
        any_visible = ops.logical_and(any_visible, queries.any_present & keys.any_present)
        return any_visible, ops.logical_and(all_visible, queries.all_present & keys.all_present)


def take(tensor: Tensor, index: Tensor, axis: int) -> Tensor:
    """Returns the entries along an axis of size 1 or of full size; the index is clipped to the size."""
    return ops.take(tensor, ops.minimum(index, ops.convert_to_tensor(shape_of(tensor)[axis] - 1, "int32")), axis=axis)


def bounds(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the range (low, high) outside of which none of the booleans `[J]` is True."""
    count = shape_of(flags)[0]
    low = ops.cast(ops.argmax(flags), "int32")
    high = count - ops.cast(ops.argmax(ops.flip(flags, axis=0)), "int32")
    return low, ops.where(ops.any(flags), high, low)
