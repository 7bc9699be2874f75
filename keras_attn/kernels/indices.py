"""The indices at which masks and biases are evaluated: those of the whole grid of scores, and those of a tile.

Indices that are not passed are aligned: they increase by one, and a tile computes its indices from its position.
Indices that are passed are cut into blocks, and their bounds are computed once, before the loops over tiles.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from keras import ops

from keras_attn.base.checks import check_axes
from keras_attn.base.tensors import shape_of, to_tensor
from keras_attn.base.types import ArrayLike, Tensor
from keras_attn.kernels.blocks import cut_axis, num_blocks
from keras_attn.masks import Grid


def whole_grid(
    query: Tensor,
    key: Tensor,
    query_offset: Tensor | None = None,
    key_length: Tensor | None = None,
    query_index: Tensor | None = None,
    key_index: Tensor | None = None,
) -> Grid:
    """Returns the `Grid` of all queries against all keys.

    Without `query_index` the index of the first query is `query_offset`; by default the last query has
    the index of the last key in use.

    Args:
        query, key: `[B, H, T, K]` and `[B, H_kv, S, K]`.
        query_offset: Integer tensor, scalar or `[B]`, or None.
        key_length: Integers `[B]`, or None.
        query_index, key_index: From `check_indices`.
    """

    def aligned_queries() -> Tensor:
        target_length, source_length = shape_of(query)[2], shape_of(key)[2]
        offset = query_offset
        if offset is None:
            offset = (source_length if key_length is None else key_length) - target_length
        if not isinstance(offset, int):
            offset = ops.reshape(ops.cast(offset, "int32"), (-1, 1, 1, 1))
        return offset + ops.reshape(ops.arange(target_length, dtype="int32"), (1, 1, -1, 1))

    def aligned_keys() -> Tensor:
        return ops.reshape(ops.arange(shape_of(key)[2], dtype="int32"), (1, 1, 1, -1))

    queries = None if query_index is None else ops.expand_dims(query_index, (1, 3))
    keys = None if key_index is None else ops.expand_dims(key_index, 1)
    return _WholeGrid(
        aligned_queries if queries is None else lambda: queries,
        aligned_keys if keys is None else lambda: keys,
        query_present=None if queries is None else queries >= 0,
        key_present=None if keys is None else keys >= 0,
    )


class _WholeGrid(Grid):
    """A grid whose indices are computed when a mask or a bias first reads them: many read none."""

    def __init__(
        self,
        queries: Callable[[], Tensor],
        keys: Callable[[], Tensor],
        query_present: Tensor | None,
        key_present: Tensor | None,
    ) -> None:
        self._queries, self._keys = queries, keys
        self.query_present, self.key_present = query_present, key_present

    @functools.cached_property
    def query_index(self) -> Tensor:
        return self._queries()

    @functools.cached_property
    def key_index(self) -> Tensor:
        return self._keys()


def check_indices(
    query: Tensor, key: Tensor, query_index: ArrayLike | None, key_index: ArrayLike | None
) -> tuple[Tensor | None, Tensor | None]:
    """Returns the indices as int32, `[B or 1, T]` and `[B or 1, 1 or T, S]`; None stays None.

    Raises:
        ValueError: For floating point, or shapes that do not match.
    """
    sizes = {"B": query.shape[0], "T": query.shape[2], "S": key.shape[2]}
    if query_index is not None:
        query_index = to_tensor("query_index", query_index, "int32")
        _check_shape("query_index", query_index, "BT", sizes, free="B")
    if key_index is not None:
        key_index = to_tensor("key_index", key_index, "int32")
        _check_shape("key_index", key_index, "BTS" if len(key_index.shape) == 3 else "BS", sizes, free="BT")
        if len(key_index.shape) == 2:
            key_index = key_index[:, None]
        elif key_index.shape[1] is None:  # 1 or T, known only at run time
            shape = (shape_of(key_index)[0], shape_of(query)[2], shape_of(key_index)[2])
            key_index = ops.broadcast_to(key_index, shape)
    return query_index, key_index


def _check_shape(name: str, index: Tensor, letters: str, sizes: dict[str, int | None], free: str) -> None:
    """Raises unless the axes have the given sizes; those in `free` may also be 1."""
    ones = {letter for letter, size in zip(letters, index.shape) if size == 1 and letter in free}
    known = {letter: size for letter, size in sizes.items() if size is not None and letter not in ones}
    check_axes({name: letters}, {name: index}, known)


def index_blocks(
    grid: Grid, target_length: int | Tensor, source_length: int | Tensor, query_block: int, key_block: int
) -> tuple[AlignedQueries | GivenIndices, AlignedKeys | GivenIndices]:
    """Returns the indices of the queries and of the keys of a whole grid, by tiles."""
    queries: AlignedQueries | GivenIndices
    if grid.query_present is None:
        queries = AlignedQueries(grid.query_index[:, :, :1], target_length, query_block)
    else:
        queries = GivenIndices.of(grid.query_index, query_block=query_block)
    if grid.key_present is None:
        return queries, AlignedKeys(source_length, key_block)
    per_query = grid.key_index.shape[2] != 1
    return queries, GivenIndices.of(grid.key_index, query_block if per_query else None, key_block)


@dataclasses.dataclass(frozen=True)
class IndexRange:
    """Lowest and highest index of blocks of queries or keys, and whether any or all of their entries are present.

    Attributes broadcast to `[J]`, one for each block of keys; a Python boolean applies to all.
    """

    low: Tensor
    high: Tensor
    any_present: Tensor
    all_present: Tensor


@dataclasses.dataclass(frozen=True)
class AlignedQueries:
    """Queries whose indices are `offset`, `offset + 1`, ...

    Attributes:
        offset: Index of the first query among the keys, int32 `[B or 1, 1, 1, 1]`.
        length: Number T of queries, before they are padded to whole blocks.
        size: Size of a block.
    """

    offset: Tensor
    length: int | Tensor
    size: int

    def tile(self, row: int | Tensor, column: int | Tensor) -> tuple[Tensor, None]:
        """Returns the indices `[B or 1, 1, t, 1]` of block `row`, and None: all count as present."""
        del column
        places = row * self.size + ops.arange(self.size, dtype="int32")
        return self.offset + ops.reshape(places, (1, 1, -1, 1)), None

    def range(self, row: int | Tensor) -> IndexRange:
        """Returns the `IndexRange` of block `row`."""
        first = row * self.size
        low, high = ops.min(self.offset) + first, ops.max(self.offset) + first + self.size - 1
        return IndexRange(low, high, first < self.length, True)


@dataclasses.dataclass(frozen=True)
class AlignedKeys:
    """Keys whose indices are 0 ... S-1.

    Attributes:
        length: Number S of keys, before they are padded to whole blocks.
        size: Size of a block.
    """

    length: int | Tensor
    size: int

    def tile(self, row: int | Tensor, column: int | Tensor) -> tuple[Tensor, Tensor]:
        """Returns the indices `[1, 1, 1, s]` of block `column`, and which of them are not padding."""
        del row
        places = column * self.size + ops.arange(self.size, dtype="int32")
        index = ops.reshape(places, (1, 1, 1, -1))
        return index, index < self.length

    def range(self, row: int | Tensor) -> IndexRange:
        """Returns the `IndexRange` of all blocks."""
        del row
        low = ops.arange(num_blocks(self.length, self.size), dtype="int32") * self.size
        high = low + self.size - 1
        return IndexRange(low, high, low < self.length, high < self.length)


@dataclasses.dataclass(frozen=True)
class GivenIndices:
    """Indices of queries or keys passed by the caller; negative ones are not present.

    Attributes:
        blocks: `[I or 1, J or 1, B or 1, 1, t or 1, s or 1]`.
        ranges: The `IndexRange` of all blocks, `[I or 1, J or 1]`.
    """

    blocks: Tensor
    ranges: IndexRange

    @classmethod
    def of(cls, index: Tensor, query_block: int | None = None, key_block: int | None = None) -> GivenIndices:
        """Cuts `[B or 1, 1, T or 1, S or 1]` along the axes with a block size; pads the last block with -1."""
        blocks = index[None, None]
        for axis, size in enumerate((query_block, key_block)):
            if size is not None:
                blocks = cut_axis(blocks, axis + 4, size, front=axis, fill=-1)
        present, axes = blocks >= 0, (2, 3, 4, 5)
        high = ops.max(blocks, axis=axes, keepdims=True)
        low = ops.min(ops.where(present, blocks, high), axis=axes)
        any_present, all_present = (function(present, axis=axes) for function in (ops.any, ops.all))
        return cls(blocks, IndexRange(low, ops.squeeze(high, axes), any_present, all_present))

    def tile(self, row: int | Tensor, column: int | Tensor) -> tuple[Tensor, Tensor]:
        """Returns the indices `[B or 1, 1, t or 1, s or 1]` of a tile, and which of them are present."""
        index = self.blocks[self._first_or(row, 0), self._first_or(column, 1)]
        return index, index >= 0

    def range(self, row: int | Tensor) -> IndexRange:
        """Returns the `IndexRange` of a row of tiles."""
        row, whole = self._first_or(row, 0), self.ranges
        return IndexRange(whole.low[row], whole.high[row], whole.any_present[row], whole.all_present[row])

    def _first_or(self, number: int | Tensor, axis: int) -> int | Tensor:
        """Returns the number of a block, or 0 if the axis is not cut or has only one block."""
        return 0 if self.blocks.shape[axis] == 1 else number
