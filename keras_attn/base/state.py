"""The state of a decoding loop: tensors with one row per text, and `Shared` ones with one row for all its beams."""

from collections.abc import Callable
from typing import NamedTuple

from keras import tree

from keras_attn.base.tensors import is_array, short_repr
from keras_attn.base.types import State, Tensor

SHARED = "shared"


class Shared(NamedTuple):
    """A part of a state with one row for all beams of a batch element: it is neither repeated nor reordered.

    Attributes:
        value: Tensors `[B, ...]`, in any structure.
    """

    value: State


def check_state(state: State, kind: type) -> None:
    """Raises a `ValueError` unless a state is of the type that the layer's `init_state` returns."""
    if not isinstance(state, kind):
        raise ValueError(f"`state` must be from `init_state` of this layer. Received: state={short_repr(state)}.")


def map_rows(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Applies a function to all tensors `[B, ...]` of a state, except the shared ones.

    Args:
        function: Function from a tensor `[B, ...]` to a tensor.
        state: Tensors in dictionaries, lists, tuples and named tuples. `Shared` parts, the value of the key
            `"shared"` of a dictionary, scalars and None do not change.
    """

    def visit(part: State) -> State:
        if isinstance(part, Shared):
            return part
        if isinstance(part, dict) and SHARED in part:
            return {name: value if name == SHARED else map_rows(function, value) for name, value in part.items()}
        return function(part) if is_array(part) and len(part.shape) else None  # None: visit its parts

    return tree.traverse(visit, state)
