"""The loop over steps that recurrent decoders with attention share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
from keras import ops, tree

from keras_attn import masks
from keras_attn.backend import has_later_gradient, scan, with_later_gradient
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import as_boolean, check_axes, check_last_axis, check_rate
from keras_attn.base.layer import BaseLayer
from keras_attn.base.recording import is_recording, record
from keras_attn.base.slot_layers import check_call, joined
from keras_attn.base.state import check_state
from keras_attn.base.tensors import as_array, lift, short_repr, to_tensor
from keras_attn.base.types import LayerArguments, Results, Shape, State, Tensor
from keras_attn.recurrent.alignment import Alignment, SoftmaxAlignment, check_alignment
from keras_attn.recurrent.cell_steps import CellSteps, Trace, steps_of
from keras_attn.recurrent.cells import (
    check_cell,
    check_cell_state,
    fixed_dropout,
    initial_cell_state,
    single_cells,
)
from keras_attn.recurrent.history_scores import HistoryScore
from keras_attn.recurrent.scores import build_score, check_score
from keras_attn.recurrent.state import AttentionState, History, RNNState, Source, Step, StepResult, StepState

if TYPE_CHECKING:
    from typing_extensions import Unpack


class RecurrentDecoder(BaseLayer):
    """Base class of recurrent decoders with attention: checks, the loop over steps, the stepwise methods.

    Subclasses define `advance`, the equations of one step, and the sizes that it needs: `fed_size`,
    `query_size` and `output_size`.

    Args:
        cell: A Keras RNN cell.
        score: A layer such as `AdditiveScore(units)`; None for an alignment that needs no score.
        dropout: Rate at which the joined cell input is dropped in training.
        return_state: Whether a call returns the last state of the cell too. It is the cell's state alone:
            `init_state` and `extend` continue a sequence with its attention.
        alignment: An `Alignment`; `SoftmaxAlignment()` by default.
        attention_loss: A loss on the attention weights that calls with `training=True` add, or None.
    """

    axes = {"inputs": "BTD", "memory": "BSM", "inputs_mask": "BT", "memory_mask": "BS"}

    def __init__(
        self,
        cell: keras.layers.Layer,
        score: keras.layers.Layer | None = None,
        dropout: float = 0.0,
        return_state: bool = False,
        alignment: Alignment | None = None,
        attention_loss: keras.losses.Loss | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_rate("dropout", dropout)
        self.cell = self.check_child("cell", check_cell(cell))
        check_call("cell", cell, "inputs", "states")
        for each in single_cells(cell):
            self.check_child("cell", each)
        check_alignment(alignment)
        alignment = SoftmaxAlignment(dtype=self.dtype_policy) if alignment is None else alignment
        self.alignment = self.check_child("alignment", alignment)
        self.score = self._checked_score(score)
        if attention_loss is not None and not isinstance(attention_loss, keras.losses.Loss):
            raise ValueError(
                "`attention_loss` must be a `keras.losses.Loss` or None. "
                f"Received: attention_loss={short_repr(attention_loss)}."
            )
        self.attention_loss = attention_loss
        self.dropout = dropout
        self.return_state = return_state
        self.noise = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="noise")
        # Of a standard deviation of 1, as Keras refuses larger ones.
        self.score_noise = keras.layers.GaussianNoise(float(alignment.noise > 0), dtype="float32", name="score_noise")

    def _checked_score(self, score: keras.layers.Layer | None) -> keras.layers.Layer | None:
        name = self.alignment.__class__.__name__
        if not self.alignment.needs_score:
            if score is not None:
                raise ValueError(
                    f"`score` must be None: `{name}` computes its weights without scores. "
                    f"Received: score={short_repr(score)}."
                )
            return None
        if score is None:
            raise ValueError(f"`score` must be a layer, as `{name}` reads scores. Received: score=None.")
        history = ("previous", "summed") if isinstance(score, HistoryScore) else ()
        return self.check_child("score", check_score("score", score, "query", "keys", *history))

    def fed_size(self, memory_size: int) -> int:
        """Returns the size F of what the cell reads besides its input."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `fed_size`.")

    def query_size(self) -> int:
        """Returns the size of the query."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `query_size`.")

    def output_size(self, memory_size: int) -> int:
        """Returns the size O of the outputs."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `output_size`.")

    def advance(self, x: State, last: StepState, source: Source, step: Step) -> StepResult:
        """Computes one step.

        Args:
            x: The input of the step, as `step.cell` reads it.
            last: The state that the step before left.
            source: What all steps read.
            step: How the step runs.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `advance`.")

    def attend(
        self, query: Tensor, last: AttentionState, source: Source, step: Step
    ) -> tuple[Tensor, Tensor, AttentionState]:
        """Returns the context `[B, M]`, the weights `[B, S]` and the new state of the attention."""
        scores = None
        if self.score is not None:
            scores = self.score(query, source.keys, *last.history)
        if scores is not None and step.score_noise is not None:
            scores = ops.cast(scores, at_least_float32(scores.dtype)) + step.score_noise
        weights, alignment = self.alignment.align(
            scores, query, last.alignment, source.mask, last.index, source.alignment_keys, step.training
        )
        history = History(weights, last.history.summed + weights) if last.history else ()
        weights = ops.cast(weights, source.memory.dtype)
        context = ops.einsum("bs,bsm->bm", weights, source.memory)
        context = context if step.context is None else context + step.context
        return context, weights, AttentionState(last.index + 1, history, alignment)

    def build(self, inputs_shape: Shape, memory_shape: Shape) -> None:
        self.input_size = check_last_axis("inputs", inputs_shape)
        fed_size = self.fed_size(check_last_axis("memory", memory_shape))
        query_shape = (None, self.query_size())
        self.build_child(self.cell, (None, self.input_size + fed_size), by_call=call_cell)
        if self.score is not None:
            self.build_child(self.score, query_shape, memory_shape, by_call=build_score)
        self.build_child(self.alignment, query_shape, memory_shape)

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
        first = self._first_state(source, initial_state)
        loss = self.attention_loss if training else None
        wanted = return_attention_scores or loss is not None
        outputs, scores, last = self._run(inputs, inputs_mask, first, source, bool(training), wanted)
        if loss is not None:
            self.add_loss(loss(self._real_cells(scores, inputs_mask, source.mask), scores))
        scores = scores if return_attention_scores else None
        results = [outputs] if scores is None else [outputs, scores]
        results += tree.flatten(last.cell) if self.return_state else []
        return results[0] if len(results) == 1 else tuple(results)

    def _real_cells(self, scores: Tensor, inputs_mask: Tensor | None, memory_mask: Tensor | None) -> Tensor:
        """Returns a boolean `[B, T, S]`: True where neither the step nor the memory position is padding."""
        real = ops.ones(ops.shape(scores), "bool")
        if inputs_mask is not None:
            real = real & ops.expand_dims(as_boolean("inputs_mask", inputs_mask), 2)
        return real if memory_mask is None else real & ops.expand_dims(memory_mask, 1)

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
            The outputs `[B, T, O]`, or a pair of outputs and scores; and the new state.

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
        outputs, scores, last = self._run(inputs, mask, state.last, state.source, False, return_attention_scores)
        return joined(outputs, scores), state._replace(last=last)

    def _run(
        self,
        inputs: Tensor,
        inputs_mask: Tensor | None,
        first: StepState,
        source: Source,
        training: bool,
        return_attention_scores: bool,
    ) -> tuple[Tensor, Tensor | None, StepState]:
        """The loop over the steps: returns outputs `[B, T, O]`, scores or None, and the state after the last step."""
        batch, source_length, memory_size = ops.shape(source.memory)
        length, fed_size = ops.shape(inputs)[1], self.fed_size(memory_size)
        cell, dtype = steps_of(self.cell, fed_size), self.compute_dtype
        x, steps = ops.swapaxes(masks.hide(inputs, inputs_mask), 0, 1), {}  # [T, B, D]
        if inputs_mask is not None:
            steps["mask"] = ops.swapaxes(as_boolean("inputs_mask", inputs_mask), 0, 1)
        if training and self.dropout:
            noise = self.noise(ops.ones((length, batch, self.input_size + fed_size), dtype), training=True)
            x, steps["cell_noise"] = x * noise[..., : self.input_size], noise[..., self.input_size :]
        if training and self.alignment.noise:
            nothing = ops.zeros((length, batch, source_length), "float32")
            steps["score_noise"] = self.alignment.noise * self.score_noise(nothing, training=True)
        trace: Trace | None = {} if training and has_later_gradient else None
        steps["x"] = cell.project(x, trace)
        results = {"outputs": first.outputs}  # as those of a step
        if return_attention_scores or is_recording() or trace is not None:
            results["weights"] = ops.zeros((batch, source_length), dtype)
        if trace is not None:
            if cell.uses_trace:
                results |= {"fed": ops.zeros((batch, fed_size), dtype), "before": tree.flatten(first.cell)[0]}
            nothing = ops.zeros((length, batch, memory_size), dtype)
            steps["context"] = late_context(nothing, source.memory, trace)
            source = source._replace(memory=ops.stop_gradient(source.memory))

        def step(last: StepState, now: dict[str, State]) -> tuple[StepState, dict[str, Tensor]]:
            how = Step(cell, now.get("cell_noise"), now.get("score_noise"), now.get("context"), training)
            new, weights, fed = self.advance(now["x"], last, source, how)
            if "mask" in now:
                new = tree.map_structure(lambda new, old: ops.where(lift(now["mask"], new), new, old), new, last)
                weights = ops.where(lift(now["mask"], weights), weights, 0)
            found = {"outputs": new.outputs, "weights": weights, "fed": fed, "before": tree.flatten(last.cell)[0]}
            return new, {name: found[name] for name in results}

        with fixed_dropout(self.cell, ops.zeros((batch, self.input_size + fed_size), dtype), first.cell):
            last, results = scan(step, first, steps, results)
        if trace is not None:
            # Detached: the backward pass refers to the trace, which must not refer to the backward pass.
            trace.update({name: ops.stop_gradient(tensor) for name, tensor in results.items()})
        outputs = ops.swapaxes(results["outputs"], 0, 1)
        weights = ops.swapaxes(results["weights"], 0, 1) if return_attention_scores or is_recording() else None
        record(self, weights)
        return outputs, weights if return_attention_scores else None, last

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
            max_length: Not needed by a recurrent decoder; there is no limit.

        Raises:
            ValueError: If the layer is not built or the shapes do not fit.
        """
        if not self.built:
            raise ValueError(f"`{self.name}` must be built before `init_state`: call it, or its model, once.")
        memory, memory_mask = as_array("memory", memory), as_array("memory_mask", memory_mask)
        memory = ops.cast(memory, self.compute_dtype)
        if memory_mask is None:
            memory_mask = ops.ones(ops.shape(memory)[:2], "bool")
        check_axes(self.axes, {"memory": memory, "memory_mask": memory_mask})
        source = self._read_once(memory, memory_mask)
        return RNNState(self._first_state(source, initial_state), source)

    def step(
        self, inputs: Tensor, state: State, index: int | Tensor | None = None, return_attention_scores: bool = False
    ) -> tuple[Results, RNNState]:
        """Computes one step of the call.

        Args:
            inputs: `[B, D]`.
            state: From `init_state`, or from the step before.
            index: Position of the step. It is not needed by a recurrent decoder.
            return_attention_scores: Whether to return the scores too, `[B, S]`.

        Returns:
            The outputs `[B, O]` (or a tuple of outputs and scores) and the new state.
        """
        check_state(state, RNNState)
        inputs, sizes = as_array("inputs", inputs), {"D": self.input_size}
        check_axes({"inputs": "BD", "memory": "BSM"}, {"inputs": inputs, "memory": state.source.memory}, sizes)
        inputs = ops.cast(inputs, self.compute_dtype)
        last, scores, _ = self.advance(inputs, state.last, state.source, Step(CellSteps(self.cell)))
        return joined(last.outputs, scores if return_attention_scores else None), state._replace(last=last)

    def _read_once(self, memory: Tensor, memory_mask: Tensor | None) -> Source:
        """Returns what all steps read: the memory, what score and alignment keep of it, and its mask."""
        memory = masks.hide(memory, memory_mask)
        memory_mask = None if memory_mask is None else as_boolean("memory_mask", memory_mask)
        keys = () if self.score is None else self.score.keys(memory)
        return Source(memory, keys, self.alignment.keys(memory), memory_mask)

    def check_arguments(self, arguments: Mapping[str, object]) -> dict[str, int]:
        sizes = super().check_arguments(arguments)
        if arguments.get("initial_state") is not None:
            check_cell_state(self.cell, arguments["initial_state"], sizes)
        return sizes

    def _first_state(self, source: Source, initial_state: State) -> StepState:
        """Returns the state before the first step, with the cell state that the caller gave, or the cell's own."""
        batch, source_length, memory_size = ops.shape(source.memory)
        cell = initial_cell_state(self.cell, batch, self.compute_dtype)
        if initial_state is not None:
            check_cell_state(self.cell, initial_state, {"B": source.memory.shape[0]})
            given = [ops.cast(tensor, self.compute_dtype) for tensor in tree.flatten(initial_state)]
            cell = tree.pack_sequence_as(cell, given)
        history: State = ()
        if isinstance(self.score, HistoryScore):
            nothing = ops.zeros((batch, source_length), at_least_float32(self.compute_dtype))
            history = History(nothing, nothing)
        alignment = self.alignment.init_state(source.memory, source.mask)
        attention = AttentionState(ops.zeros((batch,), "int32"), history, alignment)
        outputs = ops.zeros((batch, self.output_size(memory_size)), self.compute_dtype)
        return StepState(cell, attention, outputs)

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Shape) -> Shape:
        return (*inputs_shape[:2], None if memory_shape[-1] is None else self.output_size(memory_shape[-1]))

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
    """Builds a cell that has no `build` of its own by a symbolic call."""
    inputs = keras.KerasTensor(inputs_shape, cell.compute_dtype)
    sizes = cell.state_size if tree.is_nested(cell.state_size) else [cell.state_size]
    cell(inputs, tree.map_structure(lambda size: keras.KerasTensor((None, size), cell.compute_dtype), sizes))


def late_context(added: Tensor, memory: Tensor, trace: Trace) -> Tensor:
    """Returns what a loop adds to its contexts; its gradient gives that of the memory, as `late_product` does.

    Args:
        added: `[T, B, M]`.
        memory: `[B, S, M]`.
        trace: Contains the attention weights after the loop.
    """

    def gradient(upstream: Tensor) -> tuple[Tensor]:
        weights, upstream = (ops.cast(each, at_least_float32(each.dtype)) for each in (trace["weights"], upstream))
        return (ops.cast(ops.einsum("tbs,tbm->bsm", weights, upstream), memory.dtype),)

    return with_later_gradient(added, (memory,), gradient)
