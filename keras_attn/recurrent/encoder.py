"""A recurrent encoder that hands the mask of its inputs on, whatever the version of Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from keras_attn import masks
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import LayerArguments, Shape, State, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class RecurrentEncoder(BaseLayer):
    """Runs a recurrent Keras layer with the padding mask of its inputs, and passes the mask on.

    `y = layer(x, mask)`, and the mask of `x` becomes the mask of `y`.

    Up to Keras 3.15 `RNN` and `Bidirectional` pass the mask on themselves. From 3.16 on they do
    not: an attention layer behind them then gets a memory without a mask, and reads its padding.

    Args:
        layer: A recurrent layer that returns sequences: `LSTM`, `GRU`, `SimpleRNN`, `RNN`, or
            `Bidirectional` around one of them.

    Call arguments:
        inputs: `[B, T, D]`.
        mask, inputs_mask: Padding `[B, T]`, filled in by Keras; a masked step carries the state on.

    Returns:
        What `layer` returns: the sequence `[B, T, units]` (twice the units of a `Bidirectional`
        that concatenates), with the states behind it where the layer has `return_state=True`.

    Raises:
        ValueError: If `layer` is no recurrent layer, does not return one sequence, or has another
            dtype policy, or for shapes that do not fit.

    Example:
    >>> import keras, numpy as np
    >>> from keras_attn import AdditiveRNNAttention, RecurrentEncoder
    >>> ids = np.array([[5, 6, 0], [7, 8, 9]])
    >>> embedded = keras.layers.Embedding(10, 4, mask_zero=True)(ids)
    >>> lstm = keras.layers.LSTM(8, return_sequences=True)
    >>> memory = RecurrentEncoder(keras.layers.Bidirectional(lstm))(embedded)
    >>> AdditiveRNNAttention(units=16)(np.ones((2, 4, 5), "float32"), memory).shape.as_list()
    [2, 4, 32]

    References:
        Schuster and Paliwal 1997, Bidirectional Recurrent Neural Networks.
    """

    axes = {"inputs": "BTD", "mask": "BT", "inputs_mask": "BT"}

    def __init__(self, layer: keras.layers.Layer, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        if not isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
            raise ValueError(
                f"`layer` must be a `keras.layers.RNN` or `Bidirectional`. Received: layer={short_repr(layer)}."
            )
        one_sequence = not isinstance(layer, keras.layers.Bidirectional) or layer.merge_mode is not None
        if not layer.return_sequences or not one_sequence:
            raise ValueError(
                "`layer` must return one sequence: make it with `return_sequences=True`, a `Bidirectional` with a "
                f"`merge_mode`. Received: layer={short_repr(layer)}."
            )
        self.layer = pass_masks_on(self.check_child("layer", layer))

    def build(self, inputs_shape: Shape) -> None:
        self.build_child(self.layer, inputs_shape)

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> State:
        padding = masks.first_not_none(mask, inputs_mask)
        return self.layer(masks.hide(inputs, padding), mask=padding, training=training)

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return self.layer.compute_output_shape(inputs_shape)

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> State:
        return self.layer.compute_output_spec(inputs)


def pass_masks_on(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Makes a recurrent layer pass its mask on: from Keras 3.16 on it would warn and drop it."""
    parts = [layer.forward_layer, layer.backward_layer] if isinstance(layer, keras.layers.Bidirectional) else []
    for each in (layer, *parts):
        each.supports_masking = True
    return layer
