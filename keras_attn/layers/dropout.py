"""Keras' dropout with fewer random bits on TensorFlow."""

from __future__ import annotations

import keras

from keras_attn import backend
from keras_attn.base.slot import register
from keras_attn.base.types import Tensor


@register
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout`, which takes half as many random bits on TensorFlow.

    It has the name of Keras' class, because saved weights are found by it.
    """

    def call(self, inputs: Tensor, training: bool | None = False) -> Tensor:
        if training and self.rate > 0:
            return backend.dropout(inputs, self.rate, self.seed_generator)
        return inputs
