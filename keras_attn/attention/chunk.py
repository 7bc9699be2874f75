"""A chunk of new positions, which `extend` reads after those in the state."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from keras_attn import masks
from keras_attn.attention.cache_state import CacheState, map_caches
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes
from keras_attn.base.tensors import bounds_of, shape_of, static_shape, to_tensor
from keras_attn.base.types import State, Tensor


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The indices of the new positions of each row.

    Attributes:
        index: int32 `[B or 1, T]`, negative after a row's length.
        is_first: Whether a chunk of several positions is known to be the first, because its index was
            given as the integer 0. It then attends only to itself.
        start, lengths: The arguments as given, for layers that create their own chunk from them.
    """

    index: Any
    is_first: bool
    start: Any
    lengths: Any = None

    @classmethod
    def of(
        cls,
        name: str,
        inputs: Tensor,
        state: State,
        index: int | Tensor | None,
        lengths: Tensor | None,
        size: int | None,
    ) -> Chunk:
        """Checks the arguments of `extend` and returns the chunk.

        Args:
            name, inputs: The name of the argument and the new positions `[B, T, D]`.
            state: Its caches determine the number of rows and the maximum number of positions.
            index: Index of the first new position, an integer scalar or `[B]`.
            lengths: How many of the T positions each row has, integers `[B]`; None for all.
            size: Size D of the inputs.
        """
        start = ops.reshape(to_tensor("index", index, "int32"), (-1,))  # [B or 1]
        rows, places = limits(state)
        given = {name: inputs, "index": None if start.shape[0] == 1 else start}
        if lengths is not None:
            lengths = given["lengths"] = to_tensor("lengths", lengths, "int32")
        known = {"D": size} if rows in (1, None) else {"D": size, "B": rows}
        check_axes({name: "BTD", "index": "B", "lengths": "B"}, given, known)
        steps = ops.arange(shape_of(inputs)[1], dtype="int32")[None]  # [1, T]
        new = start[:, None] + steps
        if lengths is not None:
            new = ops.where(steps < lengths[:, None], new, -1)
        check_index(start, new, places)
        return cls(new, isinstance(index, int) and index == 0 and inputs.shape[1] != 1, index, lengths)

    @property
    def counts(self) -> dict[str, Tensor]:
        """The keyword argument `lengths`, or no argument if it is None, because layers may lack it."""
        return {} if self.lengths is None else {"lengths": self.lengths}

    def hide(self, inputs: Tensor) -> Tensor:
        """Returns inputs `[B, T, D]` with zeros after each row's length, so that NaN in padding does not spread."""
        return inputs if self.lengths is None else masks.hide(inputs, self.present)

    @property
    def present(self) -> Tensor | None:
        """Boolean `[B, T]`, True for the positions that a row has; None for all."""
        return None if self.lengths is None else self.index >= 0

    @property
    def positions(self) -> Tensor:
        """The index as positions, 0 where a row has no position."""
        return self.index if self.lengths is None else ops.maximum(self.index, 0)


def limits(state: State) -> tuple[int | None, int | None]:
    """Returns the number of rows B of the caches in a state and their smallest number of slots L, None if unknown.

    Caches that roll have no limit and do not count for L.
    """
    found: list[CacheState] = []

    def note(each: CacheState) -> CacheState:
        found.append(each)
        return each

    map_caches(note, state)
    rows = [static_shape(tensor)[0] for each in found for tensor in each.kept.values()]
    places = [each.static_places for each in found if each.index is None]
    known_rows, known_places = ([size for size in sizes if size is not None] for sizes in (rows, places))
    return max(known_rows, default=None), min(known_places, default=None)


def check_index(start: Tensor, new: Tensor, places: int | None) -> None:
    """Raises a `ValueError` for a concrete index that is outside the cache."""
    if not is_concrete(start) or not is_concrete(new) or 0 in new.shape:
        return
    (lowest, _), (_, highest) = bounds_of(start), bounds_of(new)
    if lowest < 0 or (places is not None and highest >= places):
        raise ValueError(
            f"`index` must be less than max_length={places}, and not negative. "
            f"Received: index up to {highest}, from {lowest}."
        )
