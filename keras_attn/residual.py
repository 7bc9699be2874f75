"""Three ways to wire a sublayer into the residual stream, and the norm that goes with it.

A wiring is a few lines, called with the sublayer as a function: write your own by
subclassing `Residual`.
"""

import keras

from keras_attn.checks import check_slot
from keras_attn.slots import Slot, register


class Norm(Slot):
    """Makes the norm layers of a block; has no weights itself."""

    def make(self, name, dtype):
        """Returns a new Keras layer that normalises the last axis, in float32 inside."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `make(name, dtype)`.")


@register
class LayerNorm(Norm):
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450).

    Args:
        epsilon: Added to the variance.
    """

    def __init__(self, epsilon=1e-5):
        self.epsilon = epsilon

    def make(self, name, dtype):
        return keras.layers.LayerNormalization(epsilon=self.epsilon, dtype=dtype, name=name)


@register
class RMSNorm(Norm):
    """Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467).

    Args:
        epsilon: Added to the mean square.
    """

    def __init__(self, epsilon=1e-6):
        self.epsilon = epsilon

    def make(self, name, dtype):
        layer = keras.layers.RMSNormalization(epsilon=self.epsilon, dtype=dtype, name=name)
        layer.supports_masking = True  # Keras does not declare it, and warns at every masked input
        return layer


class Residual(Slot):
    """What the wirings share.

    Args:
        norm: The norm that blocks make for each sublayer.

    Attributes:
        final_norm: Whether a stack of such blocks ends in a norm of its own.
    """

    final_norm = False

    def __init__(self, norm=LayerNorm()):  # noqa: B008 - slots never change
        self.norm = check_slot("norm", norm, Norm) or LayerNorm()

    def __call__(self, x, sublayer, norm):
        """Returns the stream `[B, T, D]` after `sublayer`; `norm` is the layer that goes with it."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `__call__(x, sublayer, norm)`.")


@register
class PostNorm(Residual):
    """`Norm(x + f(x))` (Vaswani et al. 2017, arXiv:1706.03762).

    >>> from keras_attn import EncoderBlock, PostNorm
    >>> block = EncoderBlock(num_heads=8, hidden_size=2048, residual=PostNorm())
    """

    def __call__(self, x, sublayer, norm):
        return norm(x + sublayer(x))


@register
class PreNorm(Residual):
    """`x + f(Norm(x))`; a stack ends in a norm (Xiong et al. 2020, arXiv:2002.04745).

    >>> from keras_attn import EncoderBlock, PreNorm, RMSNorm
    >>> block = EncoderBlock(num_heads=8, hidden_size=2048, residual=PreNorm(RMSNorm()))
    """

    final_norm = True

    def __call__(self, x, sublayer, norm):
        return x + sublayer(norm(x))


@register
class InnerNorm(Residual):
    """`x + Norm(f(x))` (Liu et al. 2021, arXiv:2111.09883).

    >>> from keras_attn import EncoderBlock, InnerNorm
    >>> block = EncoderBlock(num_heads=8, hidden_size=2048, residual=InnerNorm())
    """

    def __call__(self, x, sublayer, norm):
        return x + norm(sublayer(x))
