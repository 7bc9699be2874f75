"""In which precision numbers are made that must not be rounded: softmax, positions, norms, sums."""

import keras


def at_least_float32(dtype):
    """Returns the dtype in which softmax, positions and norms run: float32, or float64 for float64."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"
