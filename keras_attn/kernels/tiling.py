"""Cutting the plane of scores into the tiles between blocks of queries and blocks of keys."""

import dataclasses
from typing import Any

from keras import ops

from keras_attn.kernels.blocks import block_sizes, num_blocks
from keras_attn.kernels.indices import index_blocks
from keras_attn.masks import Grid, Span

QUERY_BLOCK, KEY_BLOCK = 256, 512


@dataclasses.dataclass(frozen=True)
class Tile(Grid):
    """The grid of one tile. Positions behind a sequence's end read its last entry; the tile's mask hides them.

    Attributes:
        rows, columns: Places of the tile's queries and keys in their sequences, `[t]` and `[s]`.
        row, column: Numbers of its blocks of queries and of keys.
        number: Number of the tile, counted row by row.
    """

    rows: Any = None
    columns: Any = None
    row: Any = None
    column: Any = None
    number: Any = None

    def queries(self, tensor):
        return super().queries(take(tensor, self.rows, 1))

    def keys(self, tensor):
        return super().keys(take(tensor, self.columns, 1))

    def cells(self, tensor):
        shape = (1,) * (4 - len(tensor.shape)) + tuple(ops.shape(tensor))
        return take(take(ops.reshape(tensor, shape), self.rows, 2), self.columns, 3)


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How the plane of scores is cut, and what its mask shows of a tile.

    Attributes:
        mask: A mask object, or None.
        queries, keys: Their indices by tiles: `AlignedQueries` and `AlignedKeys`, or `GivenIndices`.
        target_length, source_length: T and S, before they are padded to whole blocks.
        query_block, key_block: Sizes of the blocks.
    """

    mask: Any
    queries: Any
    keys: Any
    target_length: Any
    source_length: Any
    query_block: int
    key_block: int

    @classmethod
    def of(cls, mask, grid, query, key, best=None):
        """Cuts the plane of `query` `[B, H, T, K]` against `key` `[B, H_kv, S, K]`, given its whole grid.

        `best` holds the sizes of the blocks of queries and keys where sequences are long.
        """
        target_length, source_length = ops.shape(query)[2], ops.shape(key)[2]
        sizes = block_sizes(query.shape[2], key.shape[2], best or (QUERY_BLOCK, KEY_BLOCK))
        queries, keys = index_blocks(grid, target_length, source_length, *sizes)
        return cls(mask, queries, keys, target_length, source_length, *sizes)

    @property
    def num_rows(self):
        """Number of blocks of queries."""
        return num_blocks(self.target_length, self.query_block)

    @property
    def num_columns(self):
        """Number of blocks of keys."""
        return num_blocks(self.source_length, self.key_block)

    def tile(self, row, column):
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

    def visible(self, tile):
        """Returns booleans that broadcast to the tile's scores `[B, H, t, s]`."""
        return tile.visible(self.mask)

    def spans(self, row):
        """Returns which key blocks block `row` of the queries may see and which it sees whole, `[J]` each."""
        queries, keys = self.queries.range(row), self.keys.range(row)
        span = Span(queries.low, queries.high, keys.low, keys.high)
        some, every = (True, True) if self.mask is None else self.mask.spans(span)
        some = ops.logical_and(some, queries.any_present & keys.any_present)
        return some, ops.logical_and(every, queries.all_present & keys.all_present)


def take(tensor, index, axis):
    """Returns the entries along an axis of size 1 or of full size, the index clipped to it."""
    return ops.take(tensor, ops.minimum(index, ops.convert_to_tensor(ops.shape(tensor)[axis] - 1, "int32")), axis=axis)


def bounds(some):
    """Returns the range (low, high) outside of which none of the booleans `[J]` is true."""
    count = ops.shape(some)[0]
    low = ops.cast(ops.argmax(some), "int32")
    high = count - ops.cast(ops.argmax(ops.flip(some, axis=0)), "int32")
    return low, ops.where(ops.any(some), high, low)
