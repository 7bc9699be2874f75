"""Keras' `Dense`, with outputs of its compute dtype."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.base.types import Tensor


class Dense(keras.layers.Dense):
    """`keras.layers.Dense` whose outputs have the compute dtype on every backend.

    On PyTorch, Keras' `matmul` returns float32 for float64 inputs, and so does its `Dense` without a bias.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return ops.cast(super().call(inputs, training=training), self.compute_dtype)
