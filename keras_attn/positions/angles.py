"""Angles of geometrically spaced waves, and the positions they are taken at."""

import numpy as np
from keras import ops

from keras_attn.base.checks import check_number
from keras_attn.base.tensors import to_tensor


def row_positions(inputs, positions):
    """Returns `positions` int32 `[B, T]`, by default 0 ... T-1 as `[1, T]`."""
    if positions is None:
        return ops.arange(ops.shape(inputs)[1], dtype="int32")[None]
    return to_tensor("positions", positions, "int32")


def geometric_rates(base, size, count):
    """Returns `base^(-2i / size)` for i in 0 ... count-1, radians per position."""
    return base ** (-2 / size * np.arange(count))


def position_angles(positions, rates, dtype):
    """Returns the positions `[B, T]` times the rates `[count]`, `[B, T, count]`."""
    return ops.cast(positions, dtype)[..., None] * ops.convert_to_tensor(rates, dtype=dtype)


def check_base(base):
    """Raises a `ValueError` unless `base` is greater than 1."""
    check_number("base", base, must="be greater than 1", above=1)
