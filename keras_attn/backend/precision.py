"""The precision of softmax, positions, norms and sums, which must not be computed in half precision."""

from __future__ import annotations

import keras

from keras_attn.base.types import DType


def at_least_float32(dtype: DType) -> str:
    """Returns the dtype in which softmax, positions and norms are computed: float32, or float64 for float64."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"
