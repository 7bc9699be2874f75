"""A recurrent encoder that passes the mask of its inputs on in every version of Keras."""

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

    Up to Keras 3.15, `RNN` and `Bidirectional` pass the mask on themselves. From 3.16 on they do
    not: an attention layer after them then gets a memory without a mask and reads its padding.

    Args:
        layer: A recurrent layer that returns sequences: `LSTM`, `GRU`, `SimpleRNN`, `RNN`, or
            `Bidirectional` around one of them.

    Call arguments:
        inputs: `[B, T, D]`.
        mask, inputs_mask: Padding mask `[B, T]`, filled in by Keras; a masked step keeps the state.

    Returns:
        What `layer` returns: the sequence `[B, T, units]` (`2 * units` for a `Bidirectional`
        that concatenates), followed by the states if the layer has `return_state=True`.

    Raises:
        ValueError: If `layer` is not a recurrent layer, does not return one sequence, or has another
            dtype policy, or if shapes do not match.

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
                "`layer` must return one sequence: make it with `return_sequences=True`, and a `Bidirectional` "
                f"also with a `merge_mode`. Received: layer={short_repr(layer)}."
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
    """Makes a recurrent layer pass its mask on. From Keras 3.16 on, it would otherwise warn and drop the mask."""
    parts = [layer.forward_layer, layer.backward_layer] if isinstance(layer, keras.layers.Bidirectional) else []
    for each in (layer, *parts):
        each.supports_masking = True
    return layer
