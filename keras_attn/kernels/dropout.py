"""Dropout of scores that depends on a seed and a place alone, so that a gradient can draw it again."""

from keras import ops

from keras_attn.backend import block_uniform


def kept(weights, rate, seed, row=0, column=0):
    """Returns the factors of a dropout: 0 for what is dropped, `1 / (1 - rate)` for what is kept.

    Args:
        weights: The scores after the softmax, `[B, H, t, s]`.
        rate: In (0, 1).
        seed: Integers `[2]`.
        row, column: Place of the tile in the plane of scores.
    """
    uniform = block_uniform(ops.shape(weights), seed, row, column)
    return ops.cast(uniform >= rate, weights.dtype) * ops.cast(1 / (1 - rate), weights.dtype)
