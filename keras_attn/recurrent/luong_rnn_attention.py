"""Luong's recurrent decoder: attention after the cell, and input feeding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.base.checks import check_last_axis, check_positive
from keras_attn.base.slot import register
from keras_attn.base.types import LayerArguments, Shape, State
from keras_attn.recurrent.alignment import Alignment, reads_scores
from keras_attn.recurrent.cells import cell_output_size, recurrent_initializer
from keras_attn.recurrent.decoder import RecurrentDecoder
from keras_attn.recurrent.scores import MultiplicativeScore
from keras_attn.recurrent.state import Source, Step, StepResult, StepState

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class LuongRNNAttention(RecurrentDecoder):
    """A recurrent decoder that attends to the memory after each step, with input feeding.

    For step i: `s_i = cell([x_i ; h~_(i-1)], s_(i-1))`, `e_ij = score(s_i, h_j)`, `a_i = alignment(e_i)`, by
    default the softmax, `c_i = sum_j a_ij h_j`, output `h~_i = tanh(W_c [c_i ; s_i])`, with `h~_0 = 0`. The
    query is the output of the cell.

    Args:
        units: Size of the output h~, and of the default cell.
        cell: A Keras RNN cell; by default `LSTMCell(units)`.
        score: A layer; by default `MultiplicativeScore()`, the paper's "general", or None for an alignment that
            needs no score.
        dropout: Dropout rate of the concatenated cell input `[x_i ; h~_(i-1)]` in training.
        return_state: Whether a call also returns the tensors of the cell's last state, as Keras' `RNN` does.
        alignment: What turns scores into weights; by default `SoftmaxAlignment()`.
        attention_loss: As for `RNNAttention`.

    Call arguments:
        inputs: `[B, T, D]`.
        memory: `[B, S, M]`.
        inputs_mask, memory_mask, initial_state, return_attention_scores: As for `RNNAttention`.

    Returns:
        The outputs `[B, T, units]`, or the outputs and the scores `[B, T, S]`. With `return_state`, the
        state's tensors `[B, ...]` follow.

    Raises:
        ValueError: If `units` is not positive, `cell` is not an RNN cell, or shapes do not match.

    Example:
    >>> import numpy as np
    >>> from keras_attn import LuongRNNAttention
    >>> inputs, memory = np.ones((2, 3, 4), "float32"), np.ones((2, 5, 6), "float32")
    >>> LuongRNNAttention(units=16)(inputs, memory).shape.as_list()
    [2, 3, 16]

    References:
        Luong et al. 2015, Effective Approaches to Attention-based Neural Machine Translation,
        arXiv:1508.04025.
    """

    def __init__(
        self,
        units: int,
        cell: keras.layers.Layer | None = None,
        score: keras.layers.Layer | None = None,
        dropout: float = 0.0,
        return_state: bool = False,
        alignment: Alignment | None = None,
        attention_loss: keras.losses.Loss | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        check_positive("units", units)
        policy = keras.dtype_policies.get(kwargs.get("dtype"))
        if cell is None:
            cell = keras.layers.LSTMCell(units, recurrent_initializer=recurrent_initializer(policy), dtype=policy)
        if score is None and reads_scores(alignment):
            score = MultiplicativeScore(dtype=policy)
        super().__init__(cell, score, dropout, return_state, alignment, attention_loss, **kwargs)
        self.units = units

    def build(self, inputs_shape: Shape, memory_shape: Shape) -> None:
        super().build(inputs_shape, memory_shape)
        joined_shape = (None, check_last_axis("memory", memory_shape) + self.query_size())
        self.output_projection = self.make_dense(
            "output_projection", self.units, joined_shape, activation="tanh", use_bias=False
        )

    def fed_size(self, memory_size: int) -> int:
        return self.units

    def query_size(self) -> int:
        return cell_output_size(self.cell)

    def output_size(self, memory_size: int) -> int:
        return self.units

    def advance(self, x: State, last: StepState, source: Source, step: Step) -> StepResult:
        query, cell, fed = step.run_cell(x, last.outputs, last.cell)
        context, weights, attention = self.attend(query, last.attention, source, step)
        outputs = self.output_projection(ops.concatenate([context, query], axis=-1))
        outputs = ops.cast(outputs, self.compute_dtype)  # on PyTorch, `Dense` returns float32 for float64
        return StepResult(StepState(cell, attention, outputs), weights, fed)
