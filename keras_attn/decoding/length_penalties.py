"""Length penalties of beam search: what the log probability of a text is divided by."""

from __future__ import annotations

from keras import ops

from keras_attn.base.checks import check_number
from keras_attn.base.slot import Slot, register
from keras_attn.base.types import Tensor


class LengthPenalty(Slot):
    """Divides the log probability of a text by a function of its length, which only grows or only falls.

    Attributes:
        exponent: Strength of the penalty. It is positive if the function grows with the length, so that long
            texts gain; with 0 the function is 1.
    """

    exponent: float

    def __call__(self, length: Tensor) -> Tensor:
        """Returns the divisors, float32, for lengths of texts including the end id, int32."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `__call__`.")


@register
class GNMTPenalty(LengthPenalty):
    """`((5 + |Y|) / 6)^exponent`.

    Args:
        exponent: 0 for none.

    Example:
    >>> from keras_attn.decoding import Beam, GNMTPenalty
    >>> Beam(4, length_penalty=GNMTPenalty(0.6)).penalty == Beam(4, length_penalty=0.6).penalty
    True

    References:
        Wu et al. 2016, Google's Neural Machine Translation System, arXiv:1609.08144, section 7.
    """

    def __init__(self, exponent: float) -> None:
        check_number("exponent", exponent)
        self.exponent = exponent

    def __call__(self, length: Tensor) -> Tensor:
        return ((5.0 + ops.cast(length, "float32")) / 6.0) ** self.exponent


@register
class PowerPenalty(LengthPenalty):
    """`|Y|^exponent`; with 1, scores are mean log probabilities of tokens. The penalty of Hugging Face transformers.

    Args:
        exponent: 0 for none.

    Example:
    >>> from keras_attn.decoding import Beam, PowerPenalty
    >>> strategy = Beam(4, length_penalty=PowerPenalty(1.0))
    """

    def __init__(self, exponent: float) -> None:
        check_number("exponent", exponent)
        self.exponent = exponent

    def __call__(self, length: Tensor) -> Tensor:
        return ops.cast(length, "float32") ** self.exponent
