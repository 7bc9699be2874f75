"""Activations that Keras lacks, as registered functions, so that models that use them can be saved."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.base.types import Tensor


@keras.saving.register_keras_serializable("keras_attn")
def gelu_tanh(x: Tensor) -> Tensor:
    """Returns `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    return ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("keras_attn")
def quick_gelu(x: Tensor) -> Tensor:
    """Returns `x sigmoid(1.702 x)`, the other approximation of GELU of arXiv:1606.08415."""
    return x * ops.sigmoid(1.702 * x)


@keras.saving.register_keras_serializable("keras_attn")
def squared_relu(x: Tensor) -> Tensor:
    """Returns `max(x, 0)^2` (So et al. 2021, arXiv:2109.08668)."""
    return ops.square(ops.relu(x))
