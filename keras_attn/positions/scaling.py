"""Scalings that extend rotary positions to sequences longer than in training."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.positions.angles import geometric_rates


class Scaling(Slot):
    """Base class of scalings, which slow the waves of `Rotary(scaling=...)`.

    Args:
        factor: How many times longer sequences may be than in training, at least 1.
    """

    def __init__(self, factor: float) -> None:
        check_number("factor", factor, at_least=1)
        self.factor = factor

    @property
    def magnitude(self) -> float:
        """Factor that multiplies the rotated queries and keys."""
        return 1.0

    def rates(self, base: float, size: int) -> NDArray[np.floating]:
        """Returns the radians per position of the `size / 2` pairs."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `rates(base, size)`.")


@register
class LinearScaling(Scaling):
    """Position interpolation: all waves are `factor` times slower (Chen et al. 2023, arXiv:2306.15595).

    >>> from keras_attn import LinearScaling, Rotary
    >>> position = Rotary(scaling=LinearScaling(factor=4))
    """

    def rates(self, base: float, size: int) -> NDArray[np.floating]:
        return geometric_rates(base, size, size // 2) / self.factor


@register
class NTKScaling(Scaling):
    """A larger base, so that the slowest wave is `factor` times slower and the fastest is unchanged.

    `base' = base * factor^(R / (R - 2))` for R rotated units (Peng et al. 2023,
    arXiv:2309.00071, section 3.1).

    >>> from keras_attn import NTKScaling, Rotary
    >>> position = Rotary(scaling=NTKScaling(factor=4))
    """

    def rates(self, base: float, size: int) -> NDArray[np.floating]:
        if size == 2:  # one wave, the fastest
            return geometric_rates(base, size, 1)
        return geometric_rates(base * self.factor ** (size / (size - 2)), size, size // 2)


@register
class YarnScaling(Scaling):
    """Slows the slow waves, keeps the fast ones, and sharpens the scores (Peng et al. 2023, arXiv:2309.00071).

    A wave that turns more than `fast` times within `original_length` positions does not change. One
    that turns less than `slow` times is slowed by `factor`. Between them, the change is gradual.
    Queries and keys are multiplied by `0.1 ln(factor) + 1`.

    Args:
        factor: How many times longer sequences may be than in training, at least 1.
        original_length: Number of positions of the training sequences.
        fast, slow: Numbers of turns within `original_length` positions.

    >>> from keras_attn import Rotary, YarnScaling
    >>> position = Rotary(scaling=YarnScaling(factor=4, original_length=4096))
    """

    def __init__(self, factor: float, original_length: int, fast: float = 32, slow: float = 1) -> None:
        super().__init__(factor)
        check_positive("original_length", original_length)
        check_number("fast", fast)
        check_number("slow", slow)
        if not fast > slow > 0:
            raise ValueError(
                "`fast` must be greater than `slow`, and both positive. "
                f"Received: {short_repr(fast)}, {short_repr(slow)}."
            )
        self.original_length = original_length
        self.fast = fast
        self.slow = slow

    @property
    def magnitude(self) -> float:
        return 0.1 * math.log(self.factor) + 1

    def rates(self, base: float, size: int) -> NDArray[np.floating]:
        rates = geometric_rates(base, size, size // 2)
        first = max(math.floor(self._pair(self.fast, base, size)), 0)
        last = min(math.ceil(self._pair(self.slow, base, size)), size - 1)
        slowed = np.clip((np.arange(size // 2) - first) / max(last - first, 1e-3), 0, 1)
        return rates * (1 - slowed) + rates / self.factor * slowed

    def _pair(self, turns: float, base: float, size: int) -> float:
        """Returns the (fractional) index of the pair that turns `turns` times within the original length."""
        return size * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(base))
