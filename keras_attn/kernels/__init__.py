"""Pure functions of tensors: the arithmetic of attention."""

from keras_attn.kernels.additive import additive_attention, additive_scores, read_memory
from keras_attn.kernels.biases import Bias, BucketBias, DistanceBias, LinearBias, TensorBias
from keras_attn.kernels.choice import check_kernel
from keras_attn.kernels.dispatch import attention
from keras_attn.kernels.softmax import masked_softmax

__all__ = [
    "Bias",
    "BucketBias",
    "DistanceBias",
    "LinearBias",
    "TensorBias",
    "additive_attention",
    "additive_scores",
    "attention",
    "check_kernel",
    "masked_softmax",
    "read_memory",
]
