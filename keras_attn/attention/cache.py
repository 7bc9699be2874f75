"""The keys and values that an attention keeps while it decodes: a slot with one verb, `append`.

A cache has L places for the positions of each row. Where L is the greatest length, index i has place
i. Where a mask reaches back over fewer positions, the cache rolls: index i has place `i % L`, and the
state also holds which index stands in each place. One more place, the last one, takes what a row
does not have in a chunk, and is never read.
"""

from __future__ import annotations

from keras import ops, tree

from keras_attn.attention.cache_state import FAR, CacheState, Kept, check_chunk, check_rewind, state_type, write
from keras_attn.backend import copy
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import is_array, to_tensor
from keras_attn.base.types import Tensor


class Cache(Slot):
    """How keys and values are kept. A subclass defines `encode` and `decode`.

    Args:
        rewind: How many positions before the last one a rolling cache can go back and read again.
    """

    def __init__(self, rewind: int = 0) -> None:
        check_number("rewind", rewind, int, at_least=0)
        self.rewind = rewind

    def encode(self, key: Tensor, value: Tensor) -> Kept:
        """Returns what is kept of keys and values.

        Args:
            key: `[B, H_kv, T, K]`.
            value: `[B, H_kv, T, V]`.

        Returns:
            Tensors `[B, H_kv, T, ...]` of rank 4 by name.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `encode(key, value)`.")

    def decode(self, kept: Kept, dtype: str) -> tuple[Tensor, Tensor]:
        """Returns keys and values `[B, H_kv, L, K]` in a dtype; undoes `encode`."""
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
            length: Greatest number of positions, an integer or a scalar tensor; None for no limit,
                where there is a window.
            sizes: Head sizes of key and value.
            dtype: Of keys and values.
            window: How many positions a query reads, itself counted; None for all.
        """
        if length is not None and not is_array(length):
            check_positive("max_length", length)
        reach = None if window is None else window + self.rewind
        rolls = reach is not None and not (isinstance(length, int) and length <= reach)
        places = reach if rolls else length
        if places is None:
            raise ValueError("`max_length` must be given where no mask bounds what a query reads. Received: None.")
        key, value = (ops.zeros((batch_size, num_heads, places + 1, size), dtype) for size in sizes)
        index = ops.full((batch_size, places + 1), -1, dtype="int32") if rolls else None
        return state_type(self, window if rolls else None)(self.encode(key, value), index)

    def append(
        self, state: CacheState, key: Tensor, value: Tensor, index: Tensor
    ) -> tuple[CacheState, Tensor, Tensor, Tensor]:
        """Reads a chunk of T positions behind what the state holds.

        What the state holds at a row's first new index or behind it is dropped: going back is legal
        (a rejected draft, a token that is read again). A cache that rolls and gets several positions
        returns old and new ones side by side, because they may belong into the same place.

        Args:
            state: From `empty` or the `append` before.
            key: `[B, H_kv, T, K]`.
            value: `[B, H_kv, T, V]`.
            index: Index of each position, int32 `[B or 1, T]`, rising; negative where a row has none.

        Returns:
            The new state; the keys and values to read, `[B, H_kv, S, K]`; their index, int32
            `[B or 1, S]`, negative where there is nothing to read.

        Raises:
            ValueError: Where values can be seen: for a chunk longer than a cache that does not roll,
                and for an index further back than a rolling cache holds.
        """
        index, (batch_size, _, length, _) = to_tensor("index", index, "int32"), ops.shape(key)
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
        written = write(held[:, None, :, None], ops.where(there, index, -1)[:, None, :, None], place)[:, 0, :, 0]
        if key.shape[2] == 1:
            state = state._replace(kept=self._write(state, new, place), index=written)
            return state, *self.decode(state.kept, key.dtype), written
        read = {name: ops.concatenate([tensor, new[name]], axis=2) for name, tensor in state.kept.items()}
        state = state._replace(kept=self._write(state, new, place, in_place=False), index=written)
        return state, *self.decode(read, key.dtype), ops.concatenate([held, index], axis=1)

    def own(self, state: CacheState, unused: int = 0) -> CacheState:
        """Returns a copy for a loop that uses each state once: its tensors are overwritten in place.

        Args:
            state: A `CacheState`.
            unused: Number of places that are left out at the end until `grow` adds them. A cache that rolls
                keeps all of its places.
        """
        unused = 0 if state.index is not None else unused
        kept = {name: copy(tensor[:, :, : -unused or None]) for name, tensor in state.kept.items()}
        return state_type(self, state.window, True, unused)(kept, state.index)

    def grow(self, state: CacheState, added: int) -> CacheState:
        """Returns the state with so many of its unused places added, at most as many as there are."""
        added = min(added, state.unused)
        widths = [[0, 0], [0, 0], [0, added], [0, 0]]
        kept = {name: ops.pad(tensor, widths) if added else tensor for name, tensor in state.kept.items()}
        return state_type(self, state.window, True, state.unused - added)(kept, state.index)

    def _write(self, state: CacheState, new: Kept, place: Tensor, in_place: bool | None = None) -> Kept:
        in_place = state.in_place if in_place is None else in_place
        return {name: write(tensor, new[name], place, in_place) for name, tensor in state.kept.items()}

    def _for_rows(self, state: CacheState, key: Tensor) -> CacheState:
        """Returns the state for the rows of `key`: a state of one row serves any number at its first chunk."""
        one = next(iter(state.kept.values())).shape[0] == 1
        if not one or key.shape[0] == 1:
            return state
        return tree.map_structure(lambda x: x if x is None else ops.repeat(x, ops.shape(key)[0], axis=0), state)


@register
class ExactCache(Cache):
    """Keys and values in the dtype they were computed in.

    Args:
        rewind: How many positions before the last one a rolling cache can go back and read again.

    Example:
    >>> from keras_attn import cache
    >>> cache.ExactCache(rewind=4)
    ExactCache(rewind=4)
    """

    def encode(self, key: Tensor, value: Tensor) -> Kept:
        return {"key": key, "value": value}

    def decode(self, kept: Kept, dtype: str) -> tuple[Tensor, Tensor]:
        return ops.cast(kept["key"], dtype), ops.cast(kept["value"], dtype)


@register
class Int8Cache(Cache):
    """Keys and values as 8-bit integers, each position and head with a scale of its own.

    Scores and outputs differ from the exact ones by up to about one part in a hundred of the
    largest key or value of a position; memory is a quarter of float32's.

    Args:
        rewind: As for `ExactCache`.
    """

    def encode(self, key: Tensor, value: Tensor) -> Kept:
        (key, key_scale), (value, value_scale) = quantize(key), quantize(value)
        return {"key": key, "key_scale": key_scale, "value": value, "value_scale": value_scale}

    def decode(self, kept: Kept, dtype: str) -> tuple[Tensor, Tensor]:
        return tuple(ops.cast(kept[name], dtype) * ops.cast(kept[f"{name}_scale"], dtype) for name in ("key", "value"))


def quantize(heads: Tensor) -> tuple[Tensor, Tensor]:
    """Returns 8-bit integers `[..., K]` and their scale `[..., 1]`: the largest number is 127."""
    heads = ops.cast(heads, at_least_float32(heads.dtype))
    scale = ops.max(ops.abs(heads), axis=-1, keepdims=True) / 127
    return ops.cast(ops.round(heads / ops.where(scale > 0, scale, 1)), "int8"), scale
