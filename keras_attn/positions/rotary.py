"""Rotary positions: queries and keys are rotated by angles that grow with the position."""

from __future__ import annotations

from keras import ops

from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_number, check_slot
from keras_attn.base.slot import Slot, register
from keras_attn.base.types import Tensor
from keras_attn.positions.angles import check_base, geometric_rates, position_angles
from keras_attn.positions.heads import HeadPosition
from keras_attn.positions.scaling import Scaling


@register
class Rotary(HeadPosition, Slot):
    """Rotates pairs of query and key units by angles that grow with the position.

    Units i and i + R/2 of the first R = fraction * K units form a pair, rotated by
    `p * base^(-2i / R)`, so that scores depend only on the distance between query and key.

    Args:
        base: The slowest pair rotates once in about `2 pi base` positions.
        fraction: Fraction of each head's units that are rotated, in (0, 1].
        scaling: How to extend to sequences longer than in training: `LinearScaling(factor)`,
            `NTKScaling(factor)`, `YarnScaling(factor, original_length)`,
            `Llama3Scaling(factor, original_length)`, or None.

    Raises:
        ValueError: If the number of rotated units is not even, or an argument is out of range.

    Example:
    >>> from keras_attn import MultiHeadSelfAttention, Rotary
    >>> layer = MultiHeadSelfAttention(num_heads=8, position=Rotary())

    References:
        Su et al. 2021, RoFormer, arXiv:2104.09864.
    """

    def __init__(self, base: float = 10000.0, fraction: float = 1.0, scaling: Scaling | None = None) -> None:
        check_base(base)
        check_number("fraction", fraction, must="be in (0, 1]", above=0, at_most=1)
        self.base = base
        self.fraction = fraction
        self.scaling = check_slot("scaling", scaling, Scaling)

    def turn(self, heads: Tensor, positions: Tensor) -> Tensor:
        size = int(heads.shape[-1] * self.fraction)
        if size % 2 or size == 0:
            raise ValueError(
                "The head size times `fraction` must be even and positive. "
                f"Received: head size {heads.shape[-1]}, fraction={self.fraction}."
            )
        rates, magnitude = geometric_rates(self.base, size, size // 2), 1.0
        if self.scaling is not None:
            rates, magnitude = self.scaling.rates(self.base, size), self.scaling.magnitude
        angles = position_angles(positions, rates, at_least_float32(heads.dtype))[:, None]  # [B, 1, T, R / 2]
        cosine, sine = magnitude * ops.cos(angles), magnitude * ops.sin(angles)
        first, second = (
            ops.cast(half, at_least_float32(half.dtype)) for half in ops.split(heads[..., :size], 2, axis=-1)
        )
        turned = ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
        return ops.concatenate([ops.cast(turned, heads.dtype), heads[..., size:]], axis=-1)
