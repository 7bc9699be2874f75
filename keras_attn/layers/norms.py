"""Norms as slot objects: they create Keras layers and have no weights themselves."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.backend import layer_norm
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_number
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import DType, Tensor


class Norm(Slot):
    """Creates the norm layers of a block, or of the heads of an attention layer."""

    def make(self, name: str, dtype: DType) -> keras.layers.Layer:
        """Returns a new Keras layer that normalises the last axis. It computes in float32."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `make(name, dtype)`.")


@register
class LayerNorm(Norm):
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450).

    Args:
        epsilon: Added to the variance.
        center: Whether the norm has a bias.
    """

    def __init__(self, epsilon: float = 1e-5, center: bool = True) -> None:
        check_number("epsilon", epsilon, at_least=0)
        if not isinstance(center, bool):
            raise ValueError(f"`center` must be True or False. Received: center={short_repr(center)}.")
        self.epsilon = epsilon
        self.center = center

    def make(self, name: str, dtype: DType) -> keras.layers.Layer:
        return LayerNormalization(epsilon=self.epsilon, center=self.center, dtype=dtype, name=name)


@register
class LayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` of the last axis, in fewer operations on TensorFlow.

    It has the name of Keras' class, because saved weights are found by it.
    """

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.cast(inputs, at_least_float32(inputs.dtype))
        gamma = ops.cast(self.gamma, x.dtype)
        beta = None if self.beta is None else ops.cast(self.beta, x.dtype)
        return ops.cast(layer_norm(x, gamma, beta, self.epsilon), self.compute_dtype)


@register
class RMSNorm(Norm):
    """Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467).

    Args:
        epsilon: Added to the mean square.
    """

    def __init__(self, epsilon: float = 1e-6) -> None:
        check_number("epsilon", epsilon, at_least=0)
        self.epsilon = epsilon

    def make(self, name: str, dtype: DType) -> keras.layers.Layer:
        layer = keras.layers.RMSNormalization(epsilon=self.epsilon, dtype=dtype, name=name)
        layer.supports_masking = True  # Keras does not set it and warns for every masked input
        return layer


@register
class NoNorm(Norm):
    """Returns its inputs: for a sublayer without a norm, such as the first one of ModernBERT (arXiv:2412.13663)."""

    def make(self, name: str, dtype: DType) -> keras.layers.Layer:
        return keras.layers.Identity(dtype=dtype, name=name)
