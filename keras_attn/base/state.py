"""The state of a decoding loop: tensors with one row per text, or under `SHARED` one row per row of the batch."""

from __future__ import annotations

from collections.abc import Callable

from keras import tree

from keras_attn.base.tensors import is_array
from keras_attn.base.types import State, Tensor

SHARED = "shared"


def map_rows(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Applies a function to all tensors `[B, ...]` of a state, except those under the key `SHARED`.

    Args:
        function: From a tensor `[B, ...]` to a tensor.
        state: Tensors in dictionaries, lists, tuples and named tuples. Values under the key `SHARED` of a
            dictionary belong to a row of the batch, not to its beams. They are kept, as scalars and None are.
    """

    def visit(part: State) -> State:
        if isinstance(part, dict) and SHARED in part:
            return {name: value if name == SHARED else map_rows(function, value) for name, value in part.items()}
        return function(part) if is_array(part) and len(part.shape) else None  # None: look inside

    return tree.traverse(visit, state)
