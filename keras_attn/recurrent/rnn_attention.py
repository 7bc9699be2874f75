"""Attention in recurrent decoders: any cell, any score, one context vector per step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
from keras import ops, tree

from keras_attn import kernels, masks
from keras_attn.backend import scan
from keras_attn.base.checks import as_boolean, check_axes, check_last_axis, check_rate
from keras_attn.base.layer import BaseLayer
from keras_attn.base.recording import is_recording, record
from keras_attn.base.slot import register
from keras_attn.base.slot_layers import check_call, joined
from keras_attn.base.state import check_state
from keras_attn.base.tensors import as_array, short_repr, to_tensor
from keras_attn.base.types import LayerArguments, Results, Shape, State, Tensor
from keras_attn.recurrent.cells import (
    cell_output_size,
    check_cell,
    check_cell_state,
    fixed_dropout,
    initial_cell_state,
    last_state,
    single_cells,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Source(NamedTuple):
    """The memory that all steps read, with its keys and mask.

    Attributes:
        memory: `[B, S, M]`.
        keys: The score's keys of the memory, `[B, S, U]`.
        mask: Boolean `[B, S]`, False at padding; None if no position is padding.
    """

    memory: Tensor
    keys: Tensor
    mask: Tensor | None


class RNNState(NamedTuple):
    """The state of a recurrent decoder.

    Attributes:
        cell: The state of its cell, a structure of tensors `[B, ...]`.
        source: The memory that all steps read.
    """

    cell: State
    source: Source


@register
class RNNAttention(BaseLayer):
    """A recurrent decoder that attends to the memory before each step.

    For step i, with any score and any cell:
    `a_ij = softmax_j(score(s_(i-1), h_j))`, `c_i = sum_j a_ij h_j`,
    `s_i = cell([x_i ; c_i], s_(i-1))`, output `[s_i ; c_i]`.
    The query is the first state tensor of the (last) cell.

    Args:
        cell: A Keras RNN cell (`GRUCell`, `LSTMCell`, `SimpleRNNCell`, `StackedRNNCells`) or a custom one.
        score: A layer, for example `AdditiveScore(units)`.
        dropout: Dropout rate of the concatenated cell input `[x_i ; c_i]` in training.
        return_state: Whether a call also returns the tensors of the cell's last state, as Keras' `RNN` does.

    Call arguments:
        inputs: `[B, T, D]`.
        memory: `[B, S, M]`.
        inputs_mask: `[B, T]`, filled in by Keras: a masked step keeps the state, repeats
            the output (zeros before the first unmasked step) and has zero scores.
        memory_mask: `[B, S]`, filled in by Keras: masked positions are not read; a row whose
            memory is fully masked reads zeros.
        initial_state: The cell's state tensors `[B, ...]`; None means the cell's initial state, zeros by default.
        return_attention_scores: Whether to return the scores too.

    Returns:
        The outputs `[B, T, units + M]`, or the outputs and the scores `[B, T, S]`. With `return_state`,
        the state's tensors `[B, ...]` follow.

    Raises:
        ValueError: If `cell` is not an RNN cell or shapes do not match.

    Example:
    >>> import keras, numpy as np
    >>> from keras_attn import AdditiveScore, RNNAttention
    >>> layer = RNNAttention(keras.layers.GRUCell(16), AdditiveScore(8))
    >>> inputs, memory = np.ones((2, 3, 4), "float32"), np.ones((2, 5, 6), "float32")
    >>> outputs, scores = layer(inputs, memory, return_attention_scores=True)
    >>> outputs.shape.as_list(), scores.shape.as_list()
    ([2, 3, 22], [2, 3, 5])

    References:
        Bahdanau et al. 2015, arXiv:1409.0473.
    """

    axes = {"inputs": "BTD", "memory": "BSM", "inputs_mask": "BT", "memory_mask": "BS"}

    def __init__(
        self,
        cell: keras.layers.Layer,
        score: keras.layers.Layer,
        dropout: float = 0.0,
        return_state: bool = False,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_rate("dropout", dropout)
        self.cell = self.check_child("cell", check_cell(cell))
        check_call("cell", cell, "inputs", "states")
        for each in single_cells(cell):
            self.check_child("cell", each)
        if not callable(getattr(score, "keys", None)):
            raise ValueError(
                f"`score` must be a layer with a `keys(memory)`, as `Score`. Received: score={short_repr(score)}."
            )
        self.score = self.check_child("score", score)
        check_call("score", score, "query", "keys")
        self.dropout = dropout
        self.return_state = return_state
        self.noise = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="noise")

    def build(self, inputs_shape: Shape, memory_shape: Shape) -> None:
        self.input_size = check_last_axis("inputs", inputs_shape)
        memory_size = check_last_axis("memory", memory_shape)
        query_shape = (None, tree.flatten(single_cells(self.cell)[-1].state_size)[0])
        self.build_child(self.cell, (None, self.input_size + memory_size), by_call=call_cell)
        self.build_child(self.score, query_shape, memory_shape, by_call=call_score)

    def call(
        self,
        inputs: Tensor,
        memory: Tensor,
        inputs_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        initial_state: State = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Results:
        source = self._read_once(memory, memory_mask)
        state = self._first_state(memory, initial_state)
        noise = None
        if training and self.dropout:
            noise = self.noise(ones_joined(inputs, memory), training=True)  # [B, T, D + M]
        outputs, scores, state = self._run(inputs, inputs_mask, state, source, noise, return_attention_scores)
        results = [outputs] if scores is None else [outputs, scores]
        results += tree.flatten(state) if self.return_state else []
        return results[0] if len(results) == 1 else tuple(results)

    def extend(
        self,
        inputs: Tensor,
        state: State,
        index: int | Tensor | None = None,
        lengths: Tensor | None = None,
        return_attention_scores: bool = False,
    ) -> tuple[Results, RNNState]:
        """Reads T new positions of each row, one after another.

        Args:
            inputs: `[B, T, D]`.
            state: The state from `init_state` or from the previous `extend` or `step`.
            index: Not used by a recurrent decoder.
            lengths: Integers `[B]`: how many of the T positions each row has, 0 to T; None means T.
            return_attention_scores: Whether to return the scores too, `[B, T, S]`.

        Returns:
            The outputs `[B, T, units + M]`, or a pair of outputs and scores; and the new state.

        Raises:
            ValueError: If shapes do not match.
        """
        check_state(state, RNNState)
        inputs, sizes = as_array("inputs", inputs), {"D": self.input_size}
        lengths = None if lengths is None else to_tensor("lengths", lengths, "int32")
        axes = {"inputs": "BTD", "memory": "BSM", "lengths": "B"}
        check_axes(axes, {"inputs": inputs, "memory": state.source.memory, "lengths": lengths}, sizes)
        inputs, mask = ops.cast(inputs, self.compute_dtype), None
        if lengths is not None:
            mask = ops.arange(ops.shape(inputs)[1], dtype="int32")[None] < lengths[:, None]
        outputs, scores, cell = self._run(inputs, mask, state.cell, state.source, None, return_attention_scores)
        return joined(outputs, scores), state._replace(cell=cell)

    def _run(
        self,
        inputs: Tensor,
        inputs_mask: Tensor | None,
        state: State,
        source: Source,
        noise: Tensor | None,
        return_attention_scores: bool,
    ) -> tuple[Tensor, Tensor | None, State]:
        """Loops over the steps. Returns outputs `[B, T, units + M]`, scores or None, and the cell's last state."""
        memory = source.memory
        blank = self._blank(inputs, memory)
        steps = {"x": masks.hide(inputs, inputs_mask)}
        if inputs_mask is not None:
            steps["mask"] = ops.expand_dims(as_boolean("inputs_mask", inputs_mask), -1)
        if noise is not None:
            steps["noise"] = noise

        def step(carry: State, now: dict[str, Tensor]) -> tuple[State, dict[str, Tensor]]:
            state, last_outputs = carry
            outputs, scores, new_state = self._advance(now["x"], state, source, now.get("noise"))
            if "mask" in now:
                outputs = ops.where(now["mask"], outputs, last_outputs)
                scores = ops.where(now["mask"], scores, 0)
                new_state = tree.map_structure(lambda new, old: ops.where(now["mask"], new, old), new_state, state)
            results = {"outputs": outputs, "scores": scores}
            return (new_state, outputs), {name: results[name] for name in like}

        like = blank if return_attention_scores or is_recording() else {"outputs": blank["outputs"]}
        with fixed_dropout(self.cell, ones_joined(inputs, memory, 1)[:, 0], state):
            (state, _), results = scan(step, (state, blank["outputs"]), swap_time(steps), like)
        results = swap_time(results)
        record(self, results.get("scores"))
        return results["outputs"], results["scores"] if return_attention_scores else None, state

    def init_state(
        self,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        initial_state: State = None,
        max_length: int | None = None,
    ) -> RNNState:
        """Returns the state before the first step.

        Args:
            memory, memory_mask, initial_state: As for the call.
            max_length: Not used: a recurrent decoder has no limit.

        Raises:
            ValueError: If the layer is not built or shapes do not match.
        """
        if not self.built:
            raise ValueError(f"`{self.name}` must be built before `init_state`: call it, or its model, once.")
        memory, memory_mask = as_array("memory", memory), as_array("memory_mask", memory_mask)
        memory = ops.cast(memory, self.compute_dtype)
        if memory_mask is None:
            memory_mask = ops.ones(ops.shape(memory)[:2], "bool")
        check_axes(self.axes, {"memory": memory, "memory_mask": memory_mask})
        source = self._read_once(memory, memory_mask)
        return RNNState(self._first_state(memory, initial_state), source)

    def step(
        self, inputs: Tensor, state: State, index: int | Tensor | None = None, return_attention_scores: bool = False
    ) -> tuple[Results, RNNState]:
        """Computes one step of the call.

        Args:
            inputs: `[B, D]`.
            state: The state from `init_state` or from the previous `extend` or `step`.
            index: Not used by a recurrent decoder.
            return_attention_scores: Whether to return the scores too, `[B, S]`.

        Returns:
            The output `[B, units + M]`, or a pair of output and scores; and the new state.
        """
        check_state(state, RNNState)
        inputs, sizes = as_array("inputs", inputs), {"D": self.input_size}
        check_axes({"inputs": "BD", "memory": "BSM"}, {"inputs": inputs, "memory": state.source.memory}, sizes)
        inputs = ops.cast(inputs, self.compute_dtype)
        outputs, scores, cell = self._advance(inputs, state.cell, state.source)
        return joined(outputs, scores if return_attention_scores else None), state._replace(cell=cell)

    def _read_once(self, memory: Tensor, memory_mask: Tensor | None) -> Source:
        """Returns the memory, its keys and its mask, which are computed once for all steps."""
        memory = masks.hide(memory, memory_mask)
        memory_mask = None if memory_mask is None else as_boolean("memory_mask", memory_mask)
        return Source(memory, self.score.keys(memory), memory_mask)

    def _advance(
        self, x: Tensor, state: State, source: Source, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """Computes the equations of one step: `[B, D]` -> `[B, units + M]`, scores `[B, S]`, new state."""
        query = tree.flatten(last_state(self.cell, state))[0]
        scores = self.score(query, source.keys)
        context, weights = kernels.read_memory(scores, source.memory, source.mask)
        cell_inputs = ops.concatenate([x, context], axis=-1)
        outputs, new_state = self.cell(cell_inputs if noise is None else cell_inputs * noise, state)
        new_state = tree.pack_sequence_as(state, tree.flatten(new_state))
        return ops.concatenate([outputs, context], axis=-1), weights, new_state

    def check_arguments(self, arguments: Mapping[str, object]) -> dict[str, int]:
        sizes = super().check_arguments(arguments)
        if arguments.get("initial_state") is not None:
            check_cell_state(self.cell, arguments["initial_state"], sizes)
        return sizes

    def _first_state(self, memory: Tensor, initial_state: State) -> State:
        state = initial_cell_state(self.cell, ops.shape(memory)[0], self.compute_dtype)
        if initial_state is None:
            return state
        check_cell_state(self.cell, initial_state, {"B": memory.shape[0]})
        given = [ops.cast(tensor, self.compute_dtype) for tensor in tree.flatten(initial_state)]
        return tree.pack_sequence_as(state, given)

    def _blank(self, inputs: Tensor, memory: Tensor) -> dict[str, Tensor]:
        batch, source_length, memory_size = ops.shape(memory)
        outputs = ops.zeros((batch, cell_output_size(self.cell) + memory_size), self.compute_dtype)
        return {"outputs": outputs, "scores": ops.zeros((batch, source_length), self.compute_dtype)}

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Shape) -> Shape:
        size = None if memory_shape[-1] is None else cell_output_size(self.cell) + memory_shape[-1]
        return (*inputs_shape[:2], size)

    def compute_output_spec(
        self, inputs: Tensor, memory: Tensor, *args: Any, return_attention_scores: bool = False, **kwargs: Any
    ) -> keras.KerasTensor | tuple[keras.KerasTensor, ...]:
        shapes = [self.compute_output_shape(inputs.shape, memory.shape)]
        if return_attention_scores:
            shapes.append((*inputs.shape[:2], memory.shape[1]))
        if self.return_state:
            shapes += [(inputs.shape[0], size) for size in tree.flatten(self.cell.state_size)]
        specs = tuple(keras.KerasTensor(shape, self.compute_dtype) for shape in shapes)
        return specs[0] if len(specs) == 1 else specs


def call_cell(cell: keras.layers.Layer, inputs_shape: Shape) -> None:
    """Builds a cell that has no `build` method by a symbolic call."""
    inputs = keras.KerasTensor(inputs_shape, cell.compute_dtype)
    sizes = cell.state_size if tree.is_nested(cell.state_size) else [cell.state_size]
    cell(inputs, tree.map_structure(lambda size: keras.KerasTensor((None, size), cell.compute_dtype), sizes))


def call_score(score: keras.layers.Layer, query_shape: Shape, memory_shape: Shape) -> None:
    """Builds a score that has no `build` method by symbolic calls of its `keys` and of the score itself."""
    query, memory = (keras.KerasTensor(shape, score.compute_dtype) for shape in (query_shape, memory_shape))
    score(query, score.keys(memory))


def ones_joined(inputs: Tensor, memory: Tensor, num_steps: int | None = None) -> Tensor:
    """Returns ones in the shape of the cell's concatenated inputs, `[B, T, D + M]`, for all or `num_steps` steps."""
    batch, length, size = ops.shape(inputs)
    return ops.ones((batch, num_steps or length, size + memory.shape[-1]), inputs.dtype)


def swap_time(tensors: State) -> State:
    """Swaps `[B, T, ...]` and `[T, B, ...]` for every tensor of a structure."""
    return tree.map_structure(lambda tensor: ops.swapaxes(tensor, 0, 1), tensors)
