"""Copies trained weights from layers of Keras and PyTorch."""

from keras_attn.convert.weights import from_keras, from_torch

__all__ = ["from_keras", "from_torch"]
