"""Three kinds of residual connections around a sublayer: `x = after(x, sublayer(before(x)))`.

To define another one, subclass `Residual`.
"""

from __future__ import annotations

import keras

from keras_attn.base.checks import check_slot
from keras_attn.base.norms import LayerNorm, Norm
from keras_attn.base.slot import Slot, register
from keras_attn.base.types import Tensor


class Residual(Slot):
    """Base class of residual connections.

    Args:
        norm: The norm that blocks create for each sublayer.

    Attributes:
        final_norm: Whether a stack of blocks adds a norm after the last block.
    """

    final_norm = False

    def __init__(self, norm: Norm = LayerNorm()) -> None:  # noqa: B008 - slots are immutable
        self.norm = check_slot("norm", norm, Norm) or LayerNorm()

    def before(self, x: Tensor, norm: keras.layers.Layer) -> Tensor:
        """Returns the sublayer's input for the stream `[B, T, D]`; `norm` is the norm of this sublayer."""
        del norm
        return x

    def after(self, x: Tensor, y: Tensor, norm: keras.layers.Layer) -> Tensor:
        """Returns the stream after a sublayer that read `before(x)` and returned `y`, both `[B, T, D]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `after(x, y, norm)`.")


@register
class PostNorm(Residual):
    """`Norm(x + f(x))` (Vaswani et al. 2017, arXiv:1706.03762).

    >>> from keras_attn import EncoderBlock, PostNorm
    >>> block = EncoderBlock(num_heads=8, hidden_size=2048, residual=PostNorm())
    """

    def after(self, x: Tensor, y: Tensor, norm: keras.layers.Layer) -> Tensor:
        return norm(x + y)


@register
class PreNorm(Residual):
    """`x + f(Norm(x))`; a stack ends with a norm (Xiong et al. 2020, arXiv:2002.04745).

    >>> from keras_attn import EncoderBlock, PreNorm, RMSNorm
    >>> block = EncoderBlock(num_heads=8, hidden_size=2048, residual=PreNorm(RMSNorm()))
    """

    final_norm = True

    def before(self, x: Tensor, norm: keras.layers.Layer) -> Tensor:
        return norm(x)

    def after(self, x: Tensor, y: Tensor, norm: keras.layers.Layer) -> Tensor:
        return x + y


@register
class InnerNorm(Residual):
    """`x + Norm(f(x))` (Liu et al. 2021, arXiv:2111.09883).

    >>> from keras_attn import EncoderBlock, InnerNorm
    >>> block = EncoderBlock(num_heads=8, hidden_size=2048, residual=InnerNorm())
    """

    def after(self, x: Tensor, y: Tensor, norm: keras.layers.Layer) -> Tensor:
        return x + norm(y)
