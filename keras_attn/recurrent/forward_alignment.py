"""The forward alignment: the decoder stays at a position or moves to the next one."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attn.backend.precision import at_least_float32
from keras_attn.base.slot import register
from keras_attn.base.types import State, Tensor
from keras_attn.kernels.recurrence import linear_recurrence, shift_right
from keras_attn.kernels.softmax import masked_softmax
from keras_attn.recurrent.alignment import Alignment, first_position

LEAST = float(np.finfo("float32").tiny)  # weights below have no finite inverse, which the gradient needs


@register
class ForwardAlignment(Alignment):
    """The forward attention of Zhang et al.: at each step the decoder stays where it is or moves on by one position.

    `a_ij ~ (a_(i-1)j + a_(i-1)(j-1)) softmax_j(e_ij)`, normalised to a sum of 1; before the first step the
    decoder is at the first real position. This is the form without a transition agent.

    Example:
    >>> import keras
    >>> from keras_attn import ForwardAlignment, LocationSensitiveScore, RNNAttention
    >>> layer = RNNAttention(keras.layers.GRUCell(16), LocationSensitiveScore(8, 5), alignment=ForwardAlignment())

    References:
        Zhang et al. 2018, Forward Attention in Sequence-to-sequence Acoustic Modelling for Speech
        Synthesis, arXiv:1807.06736.
    """

    def init_state(self, memory: Tensor, mask: Tensor | None = None) -> State:
        return first_position(memory, mask, at_least_float32(self.compute_dtype))

    def align(
        self,
        scores: Tensor | None,
        query: Tensor,
        state: State,
        mask: Tensor | None,
        index: Tensor,
        keys: State = (),
        training: bool = False,
    ) -> tuple[Tensor, State]:
        before = state
        if mask is not None:  # padding inside the memory is passed over
            before = linear_recurrence(ops.cast(ops.logical_not(mask), state.dtype), state)
        reach = state + shift_right(before, 1)
        visible = reach >= LEAST
        visible = visible if mask is None else visible & mask
        # The softmax of scores plus logarithms: its denominator cancels, and no product underflows.
        logits = ops.cast(scores, reach.dtype) + ops.log(ops.where(visible, reach, 1))
        weights = masked_softmax(logits, visible)
        return weights, weights
