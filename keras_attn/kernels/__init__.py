"""Pure functions of tensors: the arithmetic of attention."""

from keras_attn.kernels.additive import additive_attention, additive_scores
from keras_attn.kernels.biases import Bias, BucketBias, DistanceBias, LinearBias, TensorBias
from keras_attn.kernels.choice import check_kernel
from keras_attn.kernels.dispatch import attention
from keras_attn.kernels.recurrence import linear_recurrence
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
    "linear_recurrence",
    "masked_softmax",
]
