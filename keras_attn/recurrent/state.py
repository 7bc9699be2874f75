"""What recurrent decoders with attention pass from step to step, and what all their steps read."""

from __future__ import annotations

from typing import NamedTuple

from keras import tree

from keras_attn.base.types import State, Tensor
from keras_attn.recurrent.cell_steps import CellSteps


class Source(NamedTuple):
    """What all steps read.

    Attributes:
        memory: `[B, S, M]`.
        keys: What the score keeps of the memory, `[B, S, U]`; empty without a score.
        alignment_keys: What the alignment keeps of it, a structure of tensors; most keep nothing.
        mask: Boolean `[B, S]`, True where the memory is real; None where all is.
    """

    memory: Tensor
    keys: State
    alignment_keys: State
    mask: Tensor | None


class AttentionState(NamedTuple):
    """What the attention of a step passes to the next one.

    Attributes:
        index: Number of the next step of each row, int32 `[B]`.
        history: The `History` of a `HistoryScore`; empty for other scores.
        alignment: The state of the alignment.
    """

    index: Tensor
    history: State
    alignment: State


class History(NamedTuple):
    """Weights of the last step, and the sums of the weights of all steps, `[B, S]` each."""

    previous: Tensor
    summed: Tensor


class StepState(NamedTuple):
    """What passes from step to step.

    Attributes:
        cell: The state of the cell, a structure of tensors `[B, ...]`.
        attention: An `AttentionState`.
        outputs: Outputs of the last step `[B, O]`, zeros before the first.
    """

    cell: State
    attention: AttentionState
    outputs: Tensor


class StepResult(NamedTuple):
    """The result of a step.

    Attributes:
        state: The new state.
        weights: The attention weights `[B, S]`.
        fed: What the cell read besides its input, `[B, F]`.
    """

    state: StepState
    weights: Tensor
    fed: Tensor


class RNNState(NamedTuple):
    """The state of a recurrent decoder between calls of `step` and `extend`."""

    last: StepState
    source: Source


class Step(NamedTuple):
    """How a step runs.

    Attributes:
        cell: How the cell runs.
        cell_noise: What the fed part of the cell's input is multiplied with `[B, F]`, or None.
        score_noise: What is added to the scores `[B, S]`, or None.
        context: What is added to the context `[B, M]`, zeros with a gradient, or None.
        training: Whether the step is part of a call with `training=True`.
    """

    cell: CellSteps
    cell_noise: Tensor | None = None
    score_noise: Tensor | None = None
    context: Tensor | None = None
    training: bool = False

    def run_cell(self, x: State, fed: Tensor, state: State) -> tuple[Tensor, State, Tensor]:
        """Returns the outputs `[B, units]` and the new state of the cell, and what it read besides its input."""
        fed = fed if self.cell_noise is None else fed * self.cell_noise
        outputs, new_state = self.cell(x, fed, state)
        return outputs, tree.pack_sequence_as(state, tree.flatten(new_state)), fed
