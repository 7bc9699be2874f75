"""How the heads of multi-head attention score a key: the slot for all that changes the dot product."""

from __future__ import annotations

import keras

from keras_attn.base.checks import check_number, check_slot
from keras_attn.base.norms import Norm
from keras_attn.base.slot import Slot, register
from keras_attn.base.types import Identifier


@register
class DotProduct(Slot):
    """The scaled dot product, normed, capped and with sinks where wanted.

    `score_ij = cap(norm(q_i) . norm(k_j) / sqrt(K))`, `cap(x) = softcap * tanh(x / softcap)`.

    Args:
        norm: Norm of each query and key over its K units, before positions turn them, for
            instance `RMSNorm()` (Henry et al. 2020, arXiv:2010.04245); None for none.
        softcap: Bound of the scores (Gemma Team 2024, arXiv:2408.00118), or None.
        sinks: Initializer of a learned logit per head that joins the softmax beside the keys and
            has no value, for instance `"zeros"` (Xiao et al. 2023, arXiv:2309.17453); None for none.

    Raises:
        ValueError: If `norm` is no norm, `softcap` not positive, or `sinks` no initializer.

    Example:
    >>> from keras_attn import DotProduct, MultiHeadSelfAttention, RMSNorm
    >>> layer = MultiHeadSelfAttention(num_heads=8, score=DotProduct(norm=RMSNorm(), softcap=50.0))
    """

    def __init__(self, norm: Norm | None = None, softcap: float | None = None, sinks: Identifier = None) -> None:
        check_number("softcap", softcap, optional=True, must="be a positive number or None", above=0)
        self.norm = check_slot("norm", norm, Norm)
        self.softcap = softcap
        self.sinks = None if sinks is None else keras.initializers.get(sinks)
