"""Angles of geometrically spaced waves at integer positions."""

from __future__ import annotations

import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_attn.base.checks import check_number
from keras_attn.base.tensors import shape_of, to_tensor
from keras_attn.base.types import ArrayLike, DType, Tensor


def row_positions(inputs: Tensor, positions: ArrayLike | None, axis: int = 1) -> Tensor:
    """Returns `positions` int32 `[B, T]`, by default 0 ... T-1 as `[1, T]`; T is the size of an axis of `inputs`."""
    if positions is None:
        return ops.arange(shape_of(inputs)[axis], dtype="int32")[None]
    return to_tensor("positions", positions, "int32")


def geometric_rates(base: float, size: int, count: int) -> NDArray[np.floating]:
    """Returns `base^(-2i / size)` for i in 0 ... count-1, radians per position."""
    return base ** (-2 / size * np.arange(count))


def position_angles(positions: Tensor, rates: NDArray[np.floating], dtype: DType) -> Tensor:
    """Returns the products of positions `[B, T]` and rates `[count]`, `[B, T, count]`."""
    return ops.cast(positions, dtype)[..., None] * ops.convert_to_tensor(rates, dtype=dtype)


def check_base(base: object) -> None:
    """Raises a `ValueError` unless `base` is greater than 1."""
    check_number("base", base, must="be greater than 1", above=1)
