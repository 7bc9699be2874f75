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
    Queries and keys are multiplied by `attention_factor`.

    Args:
        factor: How many times longer sequences may be than in training, at least 1.
        original_length: Number of positions of the training sequences.
        fast, slow: Numbers of turns within `original_length` positions.
        attention_factor: Factor of queries and keys, `0.1 ln(factor) + 1` by default.
        mscale, mscale_all_dim: If given (both), the default of `attention_factor` is
            `(0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1)` (DeepSeek-V2, arXiv:2405.04434).
        truncate: Whether the gradual change begins and ends at whole pairs.

    Raises:
        ValueError: If a number is out of range, or only one of `mscale` and `mscale_all_dim` is given.

    >>> from keras_attn import Rotary, YarnScaling
    >>> position = Rotary(scaling=YarnScaling(factor=4, original_length=4096))
    """

    def __init__(
        self,
        factor: float,
        original_length: int,
        fast: float = 32,
        slow: float = 1,
        attention_factor: float | None = None,
        mscale: float | None = None,
        mscale_all_dim: float | None = None,
        truncate: bool = True,
    ) -> None:
        super().__init__(factor)
        check_positive("original_length", original_length)
        check_number("fast", fast)
        check_number("slow", slow)
        if not fast > slow > 0:
            raise ValueError(
                "`fast` must be greater than `slow`, and both positive. "
                f"Received: {short_repr(fast)}, {short_repr(slow)}."
            )
        for name, value in (("mscale", mscale), ("mscale_all_dim", mscale_all_dim)):
            check_number(name, value, optional=True, must="be a positive number or None", above=0)
        check_number("attention_factor", attention_factor, optional=True, at_least=0)
        if (mscale is None) is not (mscale_all_dim is None):
            raise ValueError(
                "`mscale` and `mscale_all_dim` must be given together. "
                f"Received: mscale={mscale}, mscale_all_dim={mscale_all_dim}."
            )
        if not isinstance(truncate, bool):
            raise ValueError(f"`truncate` must be True or False. Received: truncate={short_repr(truncate)}.")
        self.original_length = original_length
        self.fast = fast
        self.slow = slow
        self.attention_factor = attention_factor
        self.mscale = mscale
        self.mscale_all_dim = mscale_all_dim
        self.truncate = truncate

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale is None or self.mscale_all_dim is None:
            return self._sharpness(1.0)
        return self._sharpness(self.mscale) / self._sharpness(self.mscale_all_dim)

    def rates(self, base: float, size: int) -> NDArray[np.floating]:
        rates = geometric_rates(base, size, size // 2)
        first, last = self._pair(self.fast, base, size), self._pair(self.slow, base, size)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, size - 1)
        slowed = np.clip((np.arange(size // 2) - first) / max(last - first, 1e-3), 0, 1)
        return rates * (1 - slowed) + rates / self.factor * slowed

    def _sharpness(self, mscale: float) -> float:
        return 0.1 * mscale * math.log(self.factor) + 1

    def _pair(self, turns: float, base: float, size: int) -> float:
        """Returns the (fractional) index of the pair that turns `turns` times within the original length."""
        return size * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(base))


@register
class Llama3Scaling(Scaling):
    """Slows the slow waves and keeps the fast ones, by their wavelengths (Llama Team 2024, arXiv:2407.21783).

    A wave of `n` turns within `original_length` positions does not change if `n > high_factor`, and is
    slowed by `factor` if `n < low_factor`. Between them, its rate is the mean of both rates, weighted by
    `(n - low_factor) / (high_factor - low_factor)`.

    Args:
        factor: How many times slower the slow waves are, at least 1.
        original_length: Number of positions of the training sequences.
        low_factor, high_factor: Numbers of turns within `original_length` positions.

    Raises:
        ValueError: If a number is out of range, or `high_factor` is not greater than `low_factor`.

    >>> from keras_attn import Llama3Scaling, Rotary
    >>> position = Rotary(base=500000.0, scaling=Llama3Scaling(factor=8, original_length=8192))
    """

    def __init__(self, factor: float, original_length: int, low_factor: float = 1.0, high_factor: float = 4.0) -> None:
        super().__init__(factor)
        check_positive("original_length", original_length)
        check_number("low_factor", low_factor, above=0)
        check_number("high_factor", high_factor, above=0)
        if high_factor <= low_factor:
            raise ValueError(
                "`high_factor` must be greater than `low_factor`. "
                f"Received: low_factor={low_factor}, high_factor={high_factor}."
            )
        self.original_length = original_length
        self.low_factor = low_factor
        self.high_factor = high_factor

    def rates(self, base: float, size: int) -> NDArray[np.floating]:
        rates = geometric_rates(base, size, size // 2)
        turns = self.original_length * rates / (2 * math.pi)
        unchanged = np.clip((turns - self.low_factor) / (self.high_factor - self.low_factor), 0, 1)
        return unchanged * rates + (1 - unchanged) * rates / self.factor
