"""Weights in from the layers of Keras and PyTorch, so that trained models move over as they are."""

from keras_attn.convert.weights import from_keras, from_torch

__all__ = ["from_keras", "from_torch"]
