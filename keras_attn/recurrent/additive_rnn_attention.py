"""Bahdanau's recurrent decoder: a GRU with the additive score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from keras_attn.base.checks import check_positive
from keras_attn.base.slot import register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import LayerArguments
from keras_attn.recurrent.alignment import Alignment, reads_scores
from keras_attn.recurrent.cells import cell_output_size, recurrent_initializer
from keras_attn.recurrent.rnn_attention import RNNAttention
from keras_attn.recurrent.scores import AdditiveScore

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class AdditiveRNNAttention(RNNAttention):
    """Bahdanau's decoder: `RNNAttention` with a GRU and the additive score.

    `e_ij = v . tanh(W s_(i-1) + V h_j)`, `a_ij = softmax_j(e_ij)`, `c_i = sum_j a_ij h_j`,
    `s_i = GRU([x_i ; c_i], s_(i-1))`, output `[s_i ; c_i]`.

    Args:
        units: Size of the decoder's state.
        attention_units: Size U of the hidden layer of the default score; `units` by default.
        cell: A cell to use instead of `GRUCell(units)`.
        score: A score to use instead of `AdditiveScore(attention_units)`. If it is given, `attention_units`
            must be None or `score.units`.
        dropout: Dropout rate of the concatenated cell input `[x_i ; c_i]` in training.
        return_state, alignment, attention_loss: As for `RNNAttention`. An alignment without scores leaves `score` None.

    Call arguments, Returns, masks and Raises are those of `RNNAttention`.

    Example:
    >>> import numpy as np
    >>> from keras_attn import AdditiveRNNAttention
    >>> inputs, memory = np.ones((2, 3, 4), "float32"), np.ones((2, 5, 6), "float32")
    >>> AdditiveRNNAttention(units=16)(inputs, memory).shape.as_list()
    [2, 3, 22]

    References:
        Bahdanau et al. 2015, Neural Machine Translation by Jointly Learning to Align and
        Translate, arXiv:1409.0473.
    """

    def __init__(
        self,
        units: int,
        attention_units: int | None = None,
        cell: keras.layers.Layer | None = None,
        score: keras.layers.Layer | None = None,
        dropout: float = 0.0,
        return_state: bool = False,
        alignment: Alignment | None = None,
        attention_loss: keras.losses.Loss | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        check_positive("units", units)
        check_positive("attention_units", attention_units, optional=True)
        policy = keras.dtype_policies.get(kwargs.get("dtype"))
        if cell is None:
            cell = keras.layers.GRUCell(units, recurrent_initializer=recurrent_initializer(policy), dtype=policy)
        if score is None and reads_scores(alignment):
            score = AdditiveScore(attention_units or units, dtype=policy)
        elif score is None and attention_units is not None:
            raise ValueError(
                f"`attention_units` must be None: `{alignment.__class__.__name__}` needs no score. "
                f"Received: attention_units={attention_units}."
            )
        elif attention_units not in (None, getattr(score, "units", None)):
            raise ValueError(
                "`attention_units` is the size of the default score and must be None or `score.units` if a "
                f"`score` is given. Received: attention_units={attention_units}, score={short_repr(score)} with "
                f"units={getattr(score, 'units', None)}."
            )
        super().__init__(cell, score, dropout, return_state, alignment, attention_loss, **kwargs)
        if cell_output_size(cell) != units:
            raise ValueError(
                f"`cell` must have outputs of size units={units}. Received: cell with {cell_output_size(cell)}."
            )
        self.units = units
        self.attention_units = attention_units
