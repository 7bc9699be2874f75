"""Cutting sequences into blocks, and the plane of scores into the tiles between them."""

import dataclasses
from typing import Any

from keras import ops

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
        offset: Index of the first query among the keys, int32 `[B or 1, 1, 1, 1]`.
        target_length, source_length: T and S, before they are padded to whole blocks.
        query_block, key_block: Sizes of the blocks.
    """

    mask: Any
    offset: Any
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
        offset = grid.query_index[:, :, :1]
        sizes = block_sizes(query.shape[2], key.shape[2], best or (QUERY_BLOCK, KEY_BLOCK))
        return cls(mask, offset, target_length, source_length, *sizes)

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
        rows = row * self.query_block + ops.arange(self.query_block, dtype="int32")
        columns = column * self.key_block + ops.arange(self.key_block, dtype="int32")
        return Tile(
            query_index=self.offset + ops.reshape(rows, (1, 1, -1, 1)),
            key_index=ops.reshape(columns, (1, 1, 1, -1)),
            rows=rows,
            columns=columns,
            row=row,
            column=column,
            number=row * self.num_columns + column,
        )

    def visible(self, tile):
        """Returns booleans that broadcast to the tile's scores `[B, H, t, s]`."""
        inside = tile.key_index < self.source_length
        return inside if self.mask is None else inside & self.mask.visible(tile)

    def spans(self, row):
        """Returns which key blocks block `row` of the queries may see and which it sees whole, `[J]` each."""
        first = row * self.query_block
        columns = ops.arange(self.num_columns, dtype="int32") * self.key_block
        span = Span(
            query_low=ops.min(self.offset) + first,
            query_high=ops.max(self.offset) + first + self.query_block - 1,
            key_low=columns,
            key_high=columns + self.key_block - 1,
        )
        some, every = (True, True) if self.mask is None else self.mask.spans(span)
        there = (first < self.target_length) & (span.key_low < self.source_length)  # no block is there of an empty axis
        return ops.logical_and(some, there), ops.logical_and(every, span.key_high < self.source_length)


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


def take(tensor, index, axis):
    """Returns the entries along an axis of size 1 or of full size, the index clipped to it."""
    return ops.take(tensor, ops.minimum(index, ops.convert_to_tensor(ops.shape(tensor)[axis] - 1, "int32")), axis=axis)


def bounds(some):
    """Returns the range (low, high) outside of which none of the booleans `[J]` is true."""
    count = ops.shape(some)[0]
    low = ops.cast(ops.argmax(some), "int32")
    high = count - ops.cast(ops.argmax(ops.flip(some, axis=0)), "int32")
    return low, ops.where(ops.any(some), high, low)


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
