"""Attention in recurrent decoders before the cell: any cell, any score, any alignment."""

from __future__ import annotations

from keras import ops, tree

from keras_attn.base.slot import register
from keras_attn.base.types import State
from keras_attn.recurrent.cells import cell_output_size, last_state, single_cells
from keras_attn.recurrent.decoder import RecurrentDecoder
from keras_attn.recurrent.state import Source, Step, StepResult, StepState


@register
class RNNAttention(RecurrentDecoder):
    """A recurrent decoder that attends to the memory before each step.

    For step i, with any cell, score and alignment:
    `e_ij = score(s_(i-1), h_j)`, `a_i = alignment(e_i)`, by default the softmax, `c_i = sum_j a_ij h_j`,
    `s_i = cell([x_i ; c_i], s_(i-1))`, output `[s_i ; c_i]`.
    The query is the first state tensor of the (last) cell.

    Args:
        cell: A Keras RNN cell (`GRUCell`, `LSTMCell`, `SimpleRNNCell`, `StackedRNNCells`) or a custom one.
        score: A layer, for example `AdditiveScore(units)`.
        dropout: Dropout rate of the concatenated cell input `[x_i ; c_i]` in training.
        return_state: Whether a call also returns the tensors of the cell's last state, as Keras' `RNN` does. To
            continue a sequence with its attention, use `init_state` and `extend`.
        alignment: What turns scores into weights; by default `SoftmaxAlignment()`.
        attention_loss: A loss on the attention weights, for instance `training.CoverageLoss()`, that calls with
            `training=True` add; it takes a boolean `[B, T, S]`, True where nothing is padding, and the weights.

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

    Gradients of gradients need `training=False` on TensorFlow and PyTorch: with `training=True` those of the
    weights are computed after the loop, and differentiating them again raises an error.

    References:
        Bahdanau et al. 2015, arXiv:1409.0473.
    """

    def fed_size(self, memory_size: int) -> int:
        return memory_size

    def query_size(self) -> int:
        return tree.flatten(single_cells(self.cell)[-1].state_size)[0]

    def output_size(self, memory_size: int) -> int:
        return cell_output_size(self.cell) + memory_size

    def advance(self, x: State, last: StepState, source: Source, step: Step) -> StepResult:
        query = tree.flatten(last_state(self.cell, last.cell))[0]
        context, weights, attention = self.attend(query, last.attention, source, step)
        outputs, cell, fed = step.run_cell(x, context, last.cell)
        return StepResult(StepState(cell, attention, ops.concatenate([outputs, context], axis=-1)), weights, fed)
