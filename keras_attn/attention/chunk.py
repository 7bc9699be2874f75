"""A chunk of new positions: what `extend` reads behind a state, and the doors that lead to `extend`."""

import dataclasses
from typing import Any

from keras import ops

from keras_attn import masks
from keras_attn.attention.cache import map_caches
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes
from keras_attn.base.tensors import as_array, static_shape, to_tensor


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
    def of(cls, name, inputs, state, index, lengths, size):
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

    def hide(self, inputs):
        """Returns inputs `[B, T, D]` with zeros behind each row's length: no NaN gets past it."""
        return inputs if self.lengths is None else masks.hide(inputs, self.present)

    @property
    def present(self):
        """Which positions the rows have, `[B, T]`, or None for all."""
        return None if self.lengths is None else self.index >= 0

    @property
    def positions(self):
        """The index as positions, 0 where there is none."""
        return self.index if self.lengths is None else ops.maximum(self.index, 0)


def limits(state):
    """Returns the rows B and the fewest places L of the caches in a state, each None where not known."""
    found = []
    map_caches(lambda each: found.append(each) or each, state)
    rows = {static_shape(each.kept[name])[0] for each in found for name in each.kept} - {None}
    sizes = [static_shape(tensor)[2] for each in found if each.index is None for tensor in each.kept.values()]
    return max(rows, default=None), min((size - 1 for size in sizes if size is not None), default=None)


def check_index(start, new, places):
    """Raises a `ValueError` for an index that can be seen and has no place in the cache."""
    if not is_concrete(start) or not is_concrete(new) or 0 in new.shape:
        return
    lowest, highest = int(ops.min(start)), int(ops.max(new))
    if lowest < 0 or (places is not None and highest >= places):
        raise ValueError(
            f"`index` must be less than max_length={places}, and not negative. "
            f"Received: index up to {highest}, from {lowest}."
        )


class Stepwise:
    """A layer that decodes: `step` and `prefill` are doors to its `extend`.

    Attributes:
        model_size: Size D of its inputs, known once it is built.
    """

    def step(self, inputs, state, index=None, return_attention_scores=False):
        """Reads one position: `extend` with T = 1.

        Args:
            inputs: `[B, D]`, or `[B W, D]` with the W beams of each row side by side.
            state: From `init_state`, `prefill`, `extend` or the step before.
            index: The position, an integer scalar or `[B]`.
            return_attention_scores: Whether to return the scores too, those of `extend` without its T.

        Returns:
            The output `[B, D]` (or that and the scores) and the new state.

        Raises:
            ValueError: As `extend`.
        """
        inputs = as_array("inputs", inputs)
        check_axes({"inputs": "BD"}, {"inputs": inputs}, {"D": self.model_size})
        outputs, state = self.extend(inputs[:, None], state, index, return_attention_scores=return_attention_scores)
        if not return_attention_scores:
            return outputs[:, 0], state
        return (outputs[0][:, 0], outputs[1][..., 0, :]), state


class Prefilled(Stepwise):
    """A layer that decodes without a memory."""

    def prefill(self, inputs, lengths, max_length, cache=None):
        """Reads the first positions of each row: `extend` from an empty state.

        Args:
            inputs: `[B, T, D]`.
            lengths: Integers `[B]`: how many positions each row has; later ones are padding.
            max_length, cache: As for `init_state`.

        Returns:
            `[B, T, D]` and the state to decode from.
        """
        inputs = as_array("inputs", inputs)
        check_axes({"inputs": "BTD"}, {"inputs": inputs})
        return self.extend(inputs, self.init_state(ops.shape(inputs)[0], max_length, cache), 0, lengths)
