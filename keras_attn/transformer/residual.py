"""Four kinds of residual connections around a sublayer: `x = after(x, sublayer(before(x)))`.

To define another one, subclass `Residual`.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_attn.base.checks import check_slot
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Tensor
from keras_attn.layers.norms import LayerNorm, Norm


class Residual(Slot):
    """Base class of residual connections.

    Args:
        norm: The norm that blocks create for each sublayer; or a list of one norm per sublayer, for example
            `[NoNorm(), LayerNorm()]` for an encoder block whose attention has none.

    Attributes:
        final_norm: Whether a stack of blocks adds a norm after the last block, of the kind of the last sublayer.
        two_norms: Whether a sublayer has two norms of the same kind: one for `before` and one for `after`.
        is_position_wise: Whether `before` and `after` treat each position separately. A stack may then leave out
            padding in training, and call them with real positions only, `[1, N, D]`.
    """

    final_norm = False
    two_norms = False
    is_position_wise = False

    def __init__(self, norm: Norm | Sequence[Norm] = LayerNorm()) -> None:  # noqa: B008 - slots are immutable
        if isinstance(norm, (list, tuple)):
            if not norm or not all(isinstance(each, Norm) for each in norm):
                raise ValueError(f"`norm` must be a norm or a list of norms. Received: norm={short_repr(norm)}.")
            self.norm: Norm | list[Norm] = list(norm)
        else:
            self.norm = check_slot("norm", norm, Norm) or LayerNorm()

    def norms(self, num_sublayers: int) -> list[Norm]:
        """Returns the norm of each sublayer of a block; raises a `ValueError` for a list of another length."""
        if not isinstance(self.norm, list):
            return [self.norm] * num_sublayers
        if len(self.norm) != num_sublayers:
            raise ValueError(
                f"`norm` must hold one norm for each of the block's {num_sublayers} sublayers if it is a list. "
                f"Received: {len(self.norm)} norms."
            )
        return self.norm

    def before(self, x: Tensor, norm: keras.layers.Layer) -> Tensor:
        """Returns the sublayer's input for the stream `[B, T, D]`; `norm` is the norm of this sublayer."""
        del norm
        return x

    def after(self, x: Tensor, y: Tensor, norm: keras.layers.Layer) -> Tensor:
        """Returns the stream after a sublayer that read `before(x)` and returned `y`, both `[B, T, D]`.

        `norm` is the norm of this sublayer, or its second norm if `two_norms`.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `after(x, y, norm)`.")


@register
class PostNorm(Residual):
    """`Norm(x + f(x))` (Vaswani et al. 2017, arXiv:1706.03762).

    >>> from keras_attn import EncoderBlock, PostNorm
    >>> block = EncoderBlock(num_heads=8, hidden_size=2048, residual=PostNorm())
    """

    is_position_wise = True

    def after(self, x: Tensor, y: Tensor, norm: keras.layers.Layer) -> Tensor:
        return norm(x + y)


@register
class PreNorm(Residual):
    """`x + f(Norm(x))`; a stack ends with a norm (Xiong et al. 2020, arXiv:2002.04745).

    >>> from keras_attn import EncoderBlock, PreNorm, RMSNorm
    >>> block = EncoderBlock(num_heads=8, hidden_size=2048, residual=PreNorm(RMSNorm()))
    """

    final_norm = True
    is_position_wise = True

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

    is_position_wise = True

    def after(self, x: Tensor, y: Tensor, norm: keras.layers.Layer) -> Tensor:
        return x + norm(y)


@register
class SandwichNorm(Residual):
    """`x + Norm_2(f(Norm_1(x)))`; a stack ends with a norm (Ding et al. 2021, arXiv:2105.13290).

    It is the wiring of Gemma 2 and 3. A block creates two norms per sublayer, `norms[i]` and `after_norms[i]`.

    >>> from keras_attn import EncoderBlock, RMSNorm, SandwichNorm
    >>> block = EncoderBlock(num_heads=8, hidden_size=2048, residual=SandwichNorm(RMSNorm()))
    """

    final_norm = True
    is_position_wise = True
    two_norms = True

    def before(self, x: Tensor, norm: keras.layers.Layer) -> Tensor:
        return norm(x)

    def after(self, x: Tensor, y: Tensor, norm: keras.layers.Layer) -> Tensor:
        return x + norm(y)
