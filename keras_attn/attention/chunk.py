"""A chunk of new positions, which `extend` reads behind a state."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from keras_attn import masks
from keras_attn.attention.cache_state import CacheState, map_caches
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes
from keras_attn.base.tensors import static_shape, to_tensor
from keras_attn.base.types import State, Tensor


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Where the new positions of each row stand.

    Attributes:
        index: int32 `[B or 1, T]`, negative behind a row's length.
        is_first: Whether nothing stands before it, which is known where the index was given as the
            integer 0. A chunk of several positions then reads itself alone.
        start, lengths: As they were given, for layers that make their own of them.
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
        """Checks the arguments of an `extend`; returns its chunk.

        Args:
            name, inputs: The new positions `[B, T, D]`, and what they are called.
            state: The caches in it say how many rows and positions there may be.
            index: Index of the first new position, an integer scalar or `[B]`.
            lengths: How many of the T positions each row has, integers `[B]`; None for all.
            size: D.
        """
        start = ops.reshape(to_tensor("index", index, "int32"), (-1,))  # [B or 1]
        rows, places = limits(state)
        given = {name: inputs, "index": None if start.shape[0] == 1 else start}
        if lengths is not None:
            lengths = given["lengths"] = to_tensor("lengths", lengths, "int32")
        known = {"D": size} if rows in (1, None) else {"D": size, "B": rows}
        check_axes({name: "BTD", "index": "B", "lengths": "B"}, given, known)
        steps = ops.arange(ops.shape(inputs)[1], dtype="int32")[None]  # [1, T]
        new = start[:, None] + steps
        if lengths is not None:
            new = ops.where(steps < lengths[:, None], new, -1)
        check_index(start, new, places)
        return cls(new, isinstance(index, int) and index == 0 and inputs.shape[1] != 1, index, lengths)

    @property
    def counts(self) -> dict[str, Tensor]:
        """The lengths as an argument by name, for layers that need not know it."""
        return {} if self.lengths is None else {"lengths": self.lengths}

    def hide(self, inputs: Tensor) -> Tensor:
        """Returns inputs `[B, T, D]` with zeros behind each row's length: no NaN gets past it."""
        return inputs if self.lengths is None else masks.hide(inputs, self.present)

    @property
    def present(self) -> Tensor | None:
        """Which positions the rows have, `[B, T]`, or None for all."""
        return None if self.lengths is None else self.index >= 0

    @property
    def positions(self) -> Tensor:
        """The index as positions, 0 where there is none."""
        return self.index if self.lengths is None else ops.maximum(self.index, 0)


def limits(state: State) -> tuple[int | None, int | None]:
    """Returns the rows B and the fewest places L of the caches in a state, each None where not known."""
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
    """Raises a `ValueError` for an index that can be seen and has no place in the cache."""
    if not is_concrete(start) or not is_concrete(new) or 0 in new.shape:
        return
    lowest, highest = int(ops.min(start)), int(ops.max(new))
    if lowest < 0 or (places is not None and highest >= places):
        raise ValueError(
            f"`index` must be less than max_length={places}, and not negative. "
            f"Received: index up to {highest}, from {lowest}."
        )
