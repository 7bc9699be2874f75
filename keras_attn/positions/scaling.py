"""How rotary positions reach beyond the lengths of training."""

import math

import numpy as np

from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.positions.angles import geometric_rates


class Scaling(Slot):
    """Slows the waves of `Rotary(scaling=...)`.

    Args:
        factor: How many times longer than in training sequences may be, at least 1.

    Attributes:
        magnitude: Factor of the turned queries and keys.
    """

    magnitude = 1.0

    def __init__(self, factor):
        check_number("factor", factor, at_least=1)
        self.factor = factor

    def rates(self, base, size):
        """Returns the radians per position of the `size / 2` pairs, a NumPy array."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `rates(base, size)`.")


@register
class LinearScaling(Scaling):
    """Position interpolation: all waves `factor` times slower (Chen et al. 2023, arXiv:2306.15595).

    >>> from keras_attn import LinearScaling, Rotary
    >>> position = Rotary(scaling=LinearScaling(factor=4))
    """

    def rates(self, base, size):
        return geometric_rates(base, size, size // 2) / self.factor


@register
class NTKScaling(Scaling):
    """A larger base, so that the slowest wave is `factor` times slower and the fastest stays.

    `base' = base * factor^(R / (R - 2))` for R turning units (Peng et al. 2023,
    arXiv:2309.00071, section 3.1).

    >>> from keras_attn import NTKScaling, Rotary
    >>> position = Rotary(scaling=NTKScaling(factor=4))
    """

    def rates(self, base, size):
        if size == 2:  # one wave, the fastest
            return geometric_rates(base, size, 1)
        return geometric_rates(base * self.factor ** (size / (size - 2)), size, size // 2)


@register
class YarnScaling(Scaling):
    """Slow waves interpolate, fast ones stay, and scores are sharpened (Peng et al. 2023, arXiv:2309.00071).

    A wave that turns more than `fast` times within `original_length` positions stays as it is,
    one that turns less than `slow` times is slowed by `factor`, with a ramp between. Queries
    and keys grow by `0.1 ln(factor) + 1`.

    Args:
        factor: As for all scalings.
        original_length: Number of positions of the sequences of training.
        fast, slow: Numbers of turns.

    >>> from keras_attn import Rotary, YarnScaling
    >>> position = Rotary(scaling=YarnScaling(factor=4, original_length=4096))
    """

    def __init__(self, factor, original_length, fast=32, slow=1):
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
    def magnitude(self):
        return 0.1 * math.log(self.factor) + 1

    def rates(self, base, size):
        rates = geometric_rates(base, size, size // 2)
        first = max(math.floor(self._pair(self.fast, base, size)), 0)
        last = min(math.ceil(self._pair(self.slow, base, size)), size - 1)
        slowed = np.clip((np.arange(size // 2) - first) / max(last - first, 1e-3), 0, 1)
        return rates * (1 - slowed) + rates / self.factor * slowed

    def _pair(self, turns, base, size):
        """Returns the (fractional) number of the pair that turns so often within the original length."""
        return size * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(base))
