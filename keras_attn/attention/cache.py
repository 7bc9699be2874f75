"""Caches of the keys and values of an attention layer during decoding. The main method is `append`.

A cache has L slots for the positions of each row, called places in the code. If L is the maximum
length, index i has slot i. If a mask reaches back over fewer positions, the cache rolls: index i has
slot `i % L`, and the state also contains the index in each slot. One additional slot, the last one,
is written for positions that a row does not have in a chunk. It is never read.
"""

from __future__ import annotations

from keras import ops, tree

from keras_attn.attention.cache_state import FAR, CacheState, Kept, check_chunk, check_rewind, state_type, write_places
from keras_attn.backend import copy
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import is_array, shape_of, short_repr, to_tensor
from keras_attn.base.types import Tensor

FLOATS = ("bfloat16", "float16", "float32", "float64")


class Cache(Slot):
    """Base class of caches. A subclass defines how keys and values are stored: `encode` and `decode`.

    Args:
        rewind: How many positions before the last one a rolling cache can go back and read again.
    """

    def __init__(self, rewind: int = 0) -> None:
        check_number("rewind", rewind, int, at_least=0)
        self.rewind = rewind

    def encode(self, key: Tensor, value: Tensor) -> Kept:
        """Returns the tensors that are stored for keys and values.

        Args:
            key: `[B, H_kv, T, K]`.
            value: `[B, H_kv, T, V]`.

        Returns:
            Tensors `[B, H_kv, T, ...]` of rank 4, by name.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `encode(key, value)`.")

    def decode(self, kept: Kept, dtype: str) -> tuple[Tensor, Tensor]:
        """Returns keys and values `[B, H_kv, L, K]` in a dtype; the inverse of `encode`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `decode(kept, dtype)`.")

    def empty(
        self,
        batch_size: int | Tensor,
        num_heads: int,
        length: int | Tensor | None,
        sizes: tuple[int, int],
        dtype: str,
        window: int | None = None,
    ) -> CacheState:
        """Returns the state before the first position.

        Args:
            batch_size: Number of rows B, an integer or a scalar tensor.
            num_heads: Number of key and value heads.
            length: Maximum number of positions, an integer or a scalar tensor; None for no limit,
                which requires a window.
            sizes: Head sizes of key and value.
            dtype: Dtype of keys and values.
            window: How many positions a query reads, including its own; None for all.
        """
        if length is not None and not is_array(length):
            check_positive("max_length", length)
        reach = None if window is None else window + self.rewind
        rolls = reach is not None and not (isinstance(length, int) and length <= reach)
        places = reach if rolls else length
        if places is None:
            raise ValueError("`max_length` must be given if no mask limits how far back a query reads. Received: None.")
        key, value = (ops.zeros((batch_size, num_heads, places + 1, size), dtype) for size in sizes)
        index = ops.full((batch_size, places + 1), -1, dtype="int32") if rolls else None
        return state_type(self, window if rolls else None)(self.encode(key, value), index)

    def append(
        self, state: CacheState, key: Tensor, value: Tensor, index: Tensor
    ) -> tuple[CacheState, Tensor, Tensor, Tensor]:
        """Appends a chunk of T positions to the state.

        The index may go back, for example after a rejected draft or to read a token again: positions
        of the state at or after a row's first new index are dropped. For a chunk of several positions,
        a rolling cache returns the old and the new positions concatenated, because an old and a new
        one may have the same slot.

        Args:
            state: The state from `empty` or from the previous `append`.
            key: `[B, H_kv, T, K]`.
            value: `[B, H_kv, T, V]`.
            index: Index of each position, int32 `[B or 1, T]`, increasing; negative where a row has no position.

        Returns:
            The new state; the keys and values to read, `[B, H_kv, S, K]`; their index, int32
            `[B or 1, S]`, negative where there is no position to read.

        Raises:
            ValueError: If shapes do not match, a chunk is longer than a cache that does not roll, or an
                index is further back than a rolling cache holds. The index is checked only if it is concrete.
        """
        index, (batch_size, _, length, _) = to_tensor("index", index, "int32"), shape_of(key)
        state, places, new = self._for_rows(state, key), state.num_places, self.encode(key, value)
        check_chunk(state, new)
        if state.index is None:
            state = state._replace(kept=self._write(state, new, ops.where(index < 0, places, index)))
            return state, *self.decode(state.kept, key.dtype), ops.arange(places + 1, dtype="int32")[None]
        index = ops.broadcast_to(index, (batch_size, length))
        first = ops.min(ops.where(index < 0, FAR, index), axis=1, keepdims=True)  # [B, 1]
        check_rewind(state, first)
        held = ops.where(state.index >= first, -1, state.index)
        there = (index >= 0) & (index > ops.max(index, axis=1, keepdims=True) - places)
        place = ops.where(there, index % places, places)  # [B, T]
        written = write_places(held[:, None, :, None], ops.where(there, index, -1)[:, None, :, None], place)[:, 0, :, 0]
        if key.shape[2] == 1:
            state = state._replace(kept=self._write(state, new, place), index=written)
            return state, *self.decode(state.kept, key.dtype), written
        read = {name: ops.concatenate([tensor, new[name]], axis=2) for name, tensor in state.kept.items()}
        state = state._replace(kept=self._write(state, new, place, in_place=False), index=written)
        return state, *self.decode(read, key.dtype), ops.concatenate([held, index], axis=1)

    def own(self, state: CacheState, unused: int = 0) -> CacheState:
        """Returns a copy for a loop that uses each state only once, so that its tensors are overwritten in place.

        Args:
            state: A `CacheState`.
            unused: Number of slots at the end that are left out until `grow` adds them. A cache that rolls
                keeps all of its slots.
        """
        unused = 0 if state.index is not None else unused
        kept = {name: copy(tensor[:, :, : -unused or None]) for name, tensor in state.kept.items()}
        return state_type(self, state.window, True, unused)(kept, state.index)

    def grow(self, state: CacheState, added: int) -> CacheState:
        """Returns the state with `added` more slots, but no more than its unused ones."""
        added = min(added, state.unused)
        widths = [[0, 0], [0, 0], [0, added], [0, 0]]
        kept = {name: ops.pad(tensor, widths) if added else tensor for name, tensor in state.kept.items()}
        return state_type(self, state.window, True, state.unused - added)(kept, state.index)

    def _write(self, state: CacheState, new: Kept, place: Tensor, in_place: bool | None = None) -> Kept:
        in_place = state.in_place if in_place is None else in_place
        return {name: write_places(tensor, new[name], place, in_place) for name, tensor in state.kept.items()}

    def _for_rows(self, state: CacheState, key: Tensor) -> CacheState:
        """Repeats a state of one row for all rows of `key`; returns other states unchanged."""
        one = next(iter(state.kept.values())).shape[0] == 1
        if not one or key.shape[0] == 1:
            return state
        return tree.map_structure(lambda x: x if x is None else ops.repeat(x, shape_of(key)[0], axis=0), state)


@register
class ExactCache(Cache):
    """Keys and values as floating-point numbers: exact, or rounded to a dtype.

    Args:
        rewind: How many positions before the last one a rolling cache can go back and read again.
        dtype: Dtype in which keys and values are stored, for example `"bfloat16"`, which halves the memory of
            float32; None for the dtype they were computed in.

    Raises:
        ValueError: If `rewind` is negative, or `dtype` is not a floating-point dtype.

    Example:
    >>> from keras_attn import cache
    >>> cache.ExactCache(dtype="bfloat16")
    ExactCache(rewind=0, dtype='bfloat16')
    """

    def __init__(self, rewind: int = 0, dtype: str | None = None) -> None:
        super().__init__(rewind)
        if dtype is not None and dtype not in FLOATS:
            raise ValueError(f"`dtype` must be one of {list(FLOATS)} or None. Received: dtype={short_repr(dtype)}.")
        self.dtype = dtype

    def encode(self, key: Tensor, value: Tensor) -> Kept:
        kept = {"key": key, "value": value}
        return kept if self.dtype is None else {name: ops.cast(heads, self.dtype) for name, heads in kept.items()}

    def decode(self, kept: Kept, dtype: str) -> tuple[Tensor, Tensor]:
        return ops.cast(kept["key"], dtype), ops.cast(kept["value"], dtype)


@register
class Int8Cache(Cache):
    """Keys and values as 8-bit integers with one scale per position and head.

    Scores and outputs differ from the exact ones by up to about one percent of the largest key
    or value of a position. The cache needs a quarter of the memory of float32.

    Args:
        rewind: As for `ExactCache`.
    """

    def encode(self, key: Tensor, value: Tensor) -> Kept:
        (key, key_scale), (value, value_scale) = quantize(key), quantize(value)
        return {"key": key, "key_scale": key_scale, "value": value, "value_scale": value_scale}

    def decode(self, kept: Kept, dtype: str) -> tuple[Tensor, Tensor]:
        return tuple(ops.cast(kept[name], dtype) * ops.cast(kept[f"{name}_scale"], dtype) for name in ("key", "value"))


def quantize(heads: Tensor) -> tuple[Tensor, Tensor]:
    """Returns 8-bit integers `[..., K]` and their scale `[..., 1]`; the largest magnitude becomes 127."""
    heads = ops.cast(heads, at_least_float32(heads.dtype))
    scale = ops.max(ops.abs(heads), axis=-1, keepdims=True) / 127
    return ops.cast(ops.round(heads / ops.where(scale > 0, scale, 1)), "int8"), scale
