"""The position-wise feed-forward sublayer."""

import keras

from keras_attn import masks
from keras_attn.base.checks import check_last_axis, check_positive, check_rate
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import register


class _PositionWise(BaseLayer):
    """What the feed-forward layers share: `[B, T, D]` in and out, padding hidden at the door."""

    axes = {"inputs": "BTD", "mask": "BT", "inputs_mask": "BT"}

    def __init__(self, hidden_size, activation, dropout, **kwargs):
        super().__init__(**kwargs)
        check_positive("hidden_size", hidden_size)
        check_rate("dropout", dropout)
        self.hidden_size = hidden_size
        self.activation = keras.activations.get(activation)
        self.dropout = dropout
        self.hidden_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="hidden_dropout")

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, mask=None, inputs_mask=None, training=None):
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def _dense(self, name, size, activation=None):
        return keras.layers.Dense(size, activation, dtype=self.policy_of(name), name=name)


@register
class FeedForward(_PositionWise):
    """Two linear maps with an activation between, at each position alone.

    `y = W_2 activation(W_1 x + b_1) + b_2`

    Args:
        hidden_size: Size of the inner layer.
        activation: Anything `keras.activations.get` knows.
        dropout: Rate at which inner units are dropped in training.

    Call arguments:
        inputs: `[B, T, D]`.
        mask, inputs_mask: Padding `[B, T]`, filled in by Keras; padded positions count as zeros.

    Returns:
        `[B, T, D]`.

    Raises:
        ValueError: If `inputs` is not of rank 3, or `hidden_size` is not positive.

    Example:
    >>> import numpy as np
    >>> from keras_attn import FeedForward
    >>> FeedForward(hidden_size=64)(np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 5, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.3.
    """

    def __init__(self, hidden_size, activation="relu", dropout=0.0, **kwargs):
        super().__init__(hidden_size, activation, dropout, **kwargs)

    def build(self, inputs_shape):
        check_last_axis("inputs", inputs_shape)
        self.hidden_projection = self._dense("hidden_projection", self.hidden_size, self.activation)
        self.out_projection = self._dense("out_projection", inputs_shape[-1])
        self.build_child(self.hidden_projection, inputs_shape)
        self.build_child(self.out_projection, (*inputs_shape[:-1], self.hidden_size))

    def call(self, inputs, mask=None, inputs_mask=None, training=None):
        inputs = masks.hide(inputs, masks.first_given(mask, inputs_mask))
        hidden = self.hidden_projection(inputs)  # [B, T, hidden_size]
        return self.out_projection(self.hidden_dropout(hidden, training=training))


@register
class GatedFeedForward(_PositionWise):
    """A feed-forward layer whose inner units are gated by a second linear map.

    `y = W_3 (activation(W_1 x + b_1) * (W_2 x + b_2)) + b_3`; with `"silu"` this is SwiGLU,
    with `"gelu"` GEGLU.

    Args, call arguments, Returns and Raises as `FeedForward`.

    Example:
    >>> import numpy as np
    >>> from keras_attn import GatedFeedForward
    >>> GatedFeedForward(hidden_size=64)(np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 5, 16]

    References:
        Shazeer 2020, GLU Variants Improve Transformer, arXiv:2002.05202.
    """

    def __init__(self, hidden_size, activation="silu", dropout=0.0, **kwargs):
        super().__init__(hidden_size, activation, dropout, **kwargs)

    def build(self, inputs_shape):
        check_last_axis("inputs", inputs_shape)
        self.gate_projection = self._dense("gate_projection", self.hidden_size, self.activation)
        self.hidden_projection = self._dense("hidden_projection", self.hidden_size)
        self.out_projection = self._dense("out_projection", inputs_shape[-1])
        self.build_child(self.gate_projection, inputs_shape)
        self.build_child(self.hidden_projection, inputs_shape)
        self.build_child(self.out_projection, (*inputs_shape[:-1], self.hidden_size))

    def call(self, inputs, mask=None, inputs_mask=None, training=None):
        inputs = masks.hide(inputs, masks.first_given(mask, inputs_mask))
        hidden = self.gate_projection(inputs) * self.hidden_projection(inputs)  # [B, T, hidden_size]
        return self.out_projection(self.hidden_dropout(hidden, training=training))
