"""Linear recurrences along an axis."""

from __future__ import annotations

from keras import ops

from keras_attn.backend import scan
from keras_attn.base.types import Tensor

SHIFTS = [2**exponent for exponent in range(31)]


def linear_recurrence(decay: Tensor, inputs: Tensor) -> Tensor:
    """Computes `y_j = decay_j y_(j-1) + inputs_j` along the last axis, with `y_(-1) = 0`.

    By doubling: after r rounds an entry is the sum over the `2^r` entries up to it, so that
    `ceil(log2 S)` rounds are enough (Hillis and Steele 1986). Nothing is divided, so a decay of 0 is exact.

    Args:
        decay: `[B, S]`.
        inputs: `[B, S]`.

    Returns:
        `[B, S]`.

    Example:
    >>> import numpy as np
    >>> from keras_attn.kernels import linear_recurrence
    >>> ops.convert_to_numpy(linear_recurrence(np.full((1, 4), 0.5), np.ones((1, 4)))).tolist()
    [[1.0, 1.5, 1.75, 1.875]]
    """
    decay, sums = ops.convert_to_tensor(decay), ops.convert_to_tensor(inputs)
    length = ops.shape(sums)[1]
    if isinstance(length, int):
        for shift in SHIFTS:
            if shift < length:
                decay, sums = combined(decay, sums, shift)
        return sums
    shifts = ops.convert_to_tensor(SHIFTS, "int32")
    shifts = shifts[: ops.cast(ops.sum(ops.cast(shifts < length, "int32")), "int32")]
    (_, sums), _ = scan(lambda carry, shift: (combined(carry[0], carry[1], shift), ()), (decay, sums), shifts, ())
    return sums


def combined(decay: Tensor, sums: Tensor, shift: int | Tensor) -> tuple[Tensor, Tensor]:
    """One round of the doubling: every entry takes in the one `shift` entries before it."""
    return decay * shift_right(decay, shift), sums + decay * shift_right(sums, shift)


def shift_right(tensor: Tensor, shift: int | Tensor) -> Tensor:
    """Returns a tensor `[B, S]` moved to the right by `shift` entries; zeros come in."""
    batch, length = ops.shape(tensor)
    if isinstance(shift, int) and isinstance(length, int):
        shift = min(shift, length)
        return ops.concatenate([ops.zeros((batch, shift), tensor.dtype), tensor[:, : length - shift]], axis=1)
    return moved(tensor, -shift)  # of free length, also under XLA


def shift_left(tensor: Tensor, shift: int) -> Tensor:
    """Returns a tensor `[B, S]` moved to the left by `shift` entries; zeros come in."""
    batch, length = ops.shape(tensor)
    if isinstance(length, int):
        shift = min(shift, length)
        return ops.concatenate([tensor[:, shift:], ops.zeros((batch, shift), tensor.dtype)], axis=1)
    return moved(tensor, shift)


def moved(tensor: Tensor, places: int | Tensor) -> Tensor:
    """Returns `y_j = x_(j + places)` along the last axis of a tensor `[B, S]`, zero where there is no such entry."""
    length = ops.shape(tensor)[1]
    index = ops.arange(length, dtype="int32") + places
    inside = (index >= 0) & (index < length)
    return ops.where(inside, ops.take(tensor, ops.where(inside, index, 0), axis=1), 0)
