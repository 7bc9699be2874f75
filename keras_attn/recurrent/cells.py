"""Functions for Keras' RNN cells; a single cell and a stack of cells are handled alike.

Keras' cells have no common public base class. By convention, a cell is a layer with a
`state_size` and a call `(inputs, states) -> (outputs, states)`, where states are a list.
`output_size` and `get_initial_state` are optional.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import keras
from keras import ops, tree

from keras_attn.backend.precision import at_least_float32
from keras_attn.base.slot import register
from keras_attn.base.tensors import is_array, short_repr, static_shape
from keras_attn.base.types import DType, Shape, State, Tensor


def check_cell(cell: keras.layers.Layer) -> keras.layers.Layer:
    """Raises a `ValueError` unless `cell` is a layer with a `state_size`, as an RNN cell."""
    if isinstance(cell, keras.layers.RNN):
        raise ValueError(
            f"`cell` must be an RNN cell, not a whole RNN layer: pass its cell. Received: {short_repr(cell)}."
        )
    if not isinstance(cell, keras.layers.Layer) or getattr(cell, "state_size", None) is None:
        raise ValueError(
            "`cell` must be an RNN cell: a Keras layer with a `state_size` and a call `(inputs, states)`. "
            f"Received: cell={short_repr(cell)}."
        )
    return cell


def check_cell_state(cell: keras.layers.Layer, state: State, sizes: Mapping[str, int]) -> None:
    """Raises a `ValueError` unless `state` contains tensors `[B, size]` that match the cell's `state_size`."""
    wanted = tree.flatten(cell.state_size)
    given = tree.flatten(state)
    shapes = [static_shape(tensor) if is_array(tensor) else tensor for tensor in given]
    fits = len(given) == len(wanted) and all(
        is_array(tensor)
        and len(tensor.shape) == 2
        and tensor.shape[1] in (size, None)
        and (None in (tensor.shape[0], sizes.get("B")) or tensor.shape[0] == sizes["B"])
        for tensor, size in zip(given, wanted)
    )
    if not fits:
        raise ValueError(
            f"`initial_state` must hold tensors of the shapes {[(sizes.get('B'), size) for size in wanted]}, "
            f"which the cell's `state_size` requires. Received: {short_repr(shapes)}."
        )


def single_cells(cell: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the cells of a stack in order, or a list of the single cell."""
    return list(cell.cells) if isinstance(cell, keras.layers.StackedRNNCells) else [cell]


def last_state(cell: keras.layers.Layer, state: State) -> State:
    """Returns the state of the last cell of a stack, or of the single cell."""
    return state[-1] if isinstance(cell, keras.layers.StackedRNNCells) else state


def cell_output_size(cell: keras.layers.Layer) -> int:
    """Returns the cell's `output_size`; without one, the size of its first state, as Keras does."""
    return getattr(cell, "output_size", None) or tree.flatten(cell.state_size)[0]


def initial_cell_state(cell: keras.layers.Layer, batch_size: int | Tensor, dtype: str) -> list[State]:
    """Returns the cell's initial state as a list; zeros if the cell has no `get_initial_state`, as in Keras."""
    get_initial_state = getattr(cell, "get_initial_state", None)
    if get_initial_state is not None:
        state = get_initial_state(batch_size=batch_size)
    else:
        state = tree.map_structure(lambda size: ops.zeros((batch_size, size), dtype), cell.state_size)
    return state if tree.is_nested(state) else [state]


@register
class WideOrthogonal(keras.initializers.Orthogonal):
    """Keras' orthogonal initializer, also for half precision.

    No backend has the QR decomposition in half precision, so it is computed in float32 and cast.
    """

    def __call__(self, shape: Shape, dtype: str | None = None) -> Tensor:
        dtype = keras.backend.standardize_dtype(dtype)
        return ops.cast(super().__call__(shape, at_least_float32(dtype)), dtype)


def recurrent_initializer(policy: DType) -> keras.initializers.Initializer | str:
    """Returns the recurrent initializer of the library's default cells for a policy, or None for the global one.

    It is Keras' default initializer if that supports the dtype.
    """
    dtype = keras.dtype_policies.get(policy).variable_dtype
    return "orthogonal" if dtype in (None, at_least_float32(dtype)) else WideOrthogonal()


@contextlib.contextmanager
def fixed_dropout(cell: keras.layers.Layer, joined: Tensor, state: State) -> Iterator[None]:
    """Makes Keras' cells draw their dropout masks before a loop; their first call must not be inside it."""
    kinds = (keras.layers.GRUCell, keras.layers.LSTMCell, keras.layers.SimpleRNNCell)
    cells = [each for each in single_cells(cell) if isinstance(each, kinds)]
    if any(each.dropout or each.recurrent_dropout for each in cells):
        cell(joined, state)
    try:
        yield
    finally:
        for each in cells:
            each.reset_dropout_mask()
            each.reset_recurrent_dropout_mask()
