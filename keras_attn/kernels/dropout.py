"""Dropout of scores that depends only on a seed and the position of a tile, so that the gradient can recompute it."""

from __future__ import annotations

from keras import ops

from keras_attn.backend import block_uniform
from keras_attn.base.types import Tensor


def dropout_factors(
    weights: Tensor, rate: float, seed: Tensor, row: int | Tensor = 0, column: int | Tensor = 0
) -> Tensor:
    """Returns 0 for each score that is dropped and `1 / (1 - rate)` for each that is kept.

    Args:
        weights: The scores after the softmax, `[B, H, t, s]`.
        rate: In (0, 1).
        seed: Integers `[2]`.
        row, column: Position of the tile in the grid of tiles.
    """
    uniform = block_uniform(ops.shape(weights), seed, row, column)
    return ops.cast(uniform >= rate, weights.dtype) * ops.cast(1 / (1 - rate), weights.dtype)
