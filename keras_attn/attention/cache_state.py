"""The state of a cache: a named tuple of tensors, whose type refers to the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from keras import ops, tree

from keras_attn.backend import is_concrete, write_rows
from keras_attn.base.tensors import shape_of, static_shape
from keras_attn.base.types import State, Tensor

if TYPE_CHECKING:  # cache.py imports this file
    from keras_attn.attention.cache import Cache

FAR = 2**30  # greater than every index


Kept = dict[str, Tensor]
"""The tensors that a cache stores for keys and values, `[B, H_kv, L + 1, ...]`, by names of its choice."""


class CacheTensors(NamedTuple):
    """The tensors of a `CacheState`."""

    kept: Kept
    index: Tensor | None  # type: ignore[assignment]  # hides `tuple.index`, which is not used


class CacheState(CacheTensors):
    """The state of a cache. `state_type` creates a subclass of it for each cache.

    Loops and compilers rebuild a named tuple from its type, so all values that are not tensors
    are attributes of the type.

    Attributes:
        kept: Tensors `[B, H_kv, L + 1, ...]`, by name.
        index: The index in each slot, int32 `[B, L + 1]`, negative for an empty slot; None for
            a cache that does not roll.
    """

    __slots__ = ()
    # Attributes of the type:
    cache: Cache  # the cache that this state belongs to
    window: int | None = None  # how many positions a query reads, including its own, if the cache rolls
    in_place = False  # whether the tensors may be overwritten, because nothing else reads them
    unused = 0  # number of slots that are still left out in a loop

    @property
    def num_places(self) -> int | Tensor:
        """Number L of slots, without the additional one."""
        return shape_of(next(iter(self.kept.values())))[2] - 1

    @property
    def static_places(self) -> int | None:
        """Number L of slots as an integer, or None if it is not static."""
        size = static_shape(next(iter(self.kept.values())))[2]
        return None if size is None else size - 1


@functools.cache
def state_type(cache: Cache, window: int | None = None, in_place: bool = False, unused: int = 0) -> type[CacheState]:
    """Returns the subclass of `CacheState` for a cache. Compilers distinguish types by their names."""
    of_type = {"cache": cache, "window": window, "in_place": in_place, "unused": unused}
    name = ", ".join(f"{name}={value!r}" for name, value in of_type.items())
    return type(f"CacheState({name})", (CacheState,), {**of_type, "__slots__": ()})


def write_places(table: Tensor, heads: Tensor, place: Tensor, in_place: bool = False) -> Tensor:
    """Returns the table `[B, H, L, X]` with heads `[B, H, T, X]` written to the slots `place` `[B, T]` of each row."""
    batch_size, num_heads, length, size = shape_of(table)
    row = ops.reshape(ops.arange(batch_size * num_heads, dtype="int32"), (batch_size, num_heads, 1)) * length
    rows = ops.reshape(row + place[:, None], (-1,))  # [B H T]
    flat = ops.reshape(table, (batch_size * num_heads * length, size))
    heads = ops.reshape(ops.cast(heads, flat.dtype), (-1, size))
    return ops.reshape(write_rows(flat, rows, heads, in_place), shape_of(table))


def map_caches(function: Callable[[CacheState], CacheState], state: State) -> State:
    """Applies a function to every `CacheState` in a state."""
    return tree.traverse(lambda part: function(part) if isinstance(part, CacheState) else None, state)


def check_chunk(state: CacheState, new: Kept) -> None:
    """Raises a `ValueError` if shapes do not match or the chunk is longer than a cache that does not roll.

    Args:
        state: The `CacheState`.
        new: The tensors that the cache stores for the chunk, by name.
    """
    kept, new = ({name: static_shape(tensor) for name, tensor in each.items()} for each in (state.kept, new))
    for name in kept.keys() | new.keys():
        ours, theirs = new.get(name, ()), kept.get(name, ())
        same = len(ours) == len(theirs) == 4 and all(
            None in (ours[axis], theirs[axis]) or ours[axis] == theirs[axis] for axis in (0, 1, 3)
        )
        if not same:
            raise ValueError(
                f"`state` must be one of this layer for the same rows: {name} of shape {ours}. "
                f"Received: a cache with {name} of shape {theirs}."
            )
        length, places = ours[2], theirs[2]
        if state.index is None and length is not None and places is not None and length > places - 1:
            raise ValueError(
                f"`inputs` may have at most max_length={places - 1} positions, the size of the cache. "
                f"Received: a chunk of {length} positions."
            )


def check_rewind(state: CacheState, first: Tensor) -> None:
    """Raises a `ValueError` if a query at a row's first new index would read an overwritten position.

    Args:
        state: The `CacheState` of a cache that rolls.
        first: The first new index of each row, `[B, 1]`; `FAR` if a row has no new position.
    """
    if not (is_concrete(state.index) and is_concrete(first)):
        return
    held, first = ops.convert_to_numpy(state.index), ops.convert_to_numpy(first)
    wanted = first - np.arange(1, state.window)  # [B, window - 1]
    standing = np.take_along_axis(held, np.where(wanted < 0, 0, wanted) % (held.shape[1] - 1), axis=1)
    lost = (wanted >= 0) & (first < FAR) & (standing > wanted)
    if np.any(lost):
        row = int(np.argmax(np.any(lost, axis=1)))
        raise ValueError(
            f"`index` must not go further back than the cache holds: its last position was {held[row].max()}, and "
            f"only {held[row].max() - state.cache.rewind} and later can be read again (`rewind={state.cache.rewind}`). "
            f"Received: index={int(first[row, 0])}."
        )
