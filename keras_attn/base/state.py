"""The state of a decoding loop: a structure of tensors, one row per text, and what the texts of a row share."""

from collections.abc import Callable
from typing import NamedTuple

from keras import tree

from keras_attn.base.tensors import is_array, short_repr
from keras_attn.base.types import State, Tensor

SHARED = "shared"


class Shared(NamedTuple):
    """A part of a state that belongs to a row of the batch and not to its beams: it is neither repeated nor reordered.

    Attributes:
        value: Tensors `[B, ...]`, in any structure.
    """

    value: State


def check_state(state: State, kind: type) -> None:
    """Raises a `ValueError` unless a state is of the type that the layer's `init_state` returns."""
    if not isinstance(state, kind):
        raise ValueError(f"`state` must be from `init_state` of this layer. Received: state={short_repr(state)}.")


def map_rows(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Applies a function to all tensors `[B, ...]` of a state, except those that the texts of a row share.

    Args:
        function: From a tensor `[B, ...]` to a tensor.
        state: Tensors in dictionaries, lists, tuples and named tuples. What is `Shared`, or stands under the
            key `"shared"` of a dictionary, stays as it is, and so do scalars and None.
    """

    def visit(part: State) -> State:
        if isinstance(part, Shared):
            return part
        if isinstance(part, dict) and SHARED in part:
            return {name: value if name == SHARED else map_rows(function, value) for name, value in part.items()}
        return function(part) if is_array(part) and len(part.shape) else None  # None: look inside

    return tree.traverse(visit, state)
