"""The score of multi-head attention: the scaled dot product and its variants."""

from __future__ import annotations

import keras

from keras_attn.base.checks import check_number, check_slot
from keras_attn.base.slot import Slot, register
from keras_attn.base.types import Identifier
from keras_attn.layers.norms import Norm


@register
class DotProduct(Slot):
    """The scaled dot product, optionally with normalised queries and keys, a soft cap and attention sinks.

    `score_ij = cap(scale * norm(q_i) . norm(k_j))`, `cap(x) = softcap * tanh(x / softcap)`.

    Args:
        norm: Normalisation of each query and key over its K units, before rotary positions are applied,
            for example `RMSNorm()` (Henry et al. 2020, arXiv:2010.04245); None for no normalisation.
        softcap: Bound of the scores (Gemma Team 2024, arXiv:2408.00118), or None.
        sinks: Initializer of one learned logit per head, for example `"zeros"`. The softmax includes it next
            to the keys, but it has no value (Xiao et al. 2023, arXiv:2309.17453). None for no sinks.
        scale: Factor of the dot product, `1 / sqrt(K)` for heads of K units if None; 1.0 in T5
            (Raffel et al. 2020, arXiv:1910.10683).

    Raises:
        ValueError: If `norm` is not a norm, `softcap` or `scale` is not positive, or `sinks` is not an
            initializer.

    Example:
    >>> from keras_attn import DotProduct, MultiHeadSelfAttention, RMSNorm
    >>> layer = MultiHeadSelfAttention(num_heads=8, score=DotProduct(norm=RMSNorm(), softcap=50.0))
    """

    def __init__(
        self,
        norm: Norm | None = None,
        softcap: float | None = None,
        sinks: Identifier = None,
        scale: float | None = None,
    ) -> None:
        check_number("softcap", softcap, optional=True, must="be a positive number or None", above=0)
        check_number("scale", scale, optional=True, must="be a positive number or None", above=0)
        self.norm = check_slot("norm", norm, Norm)
        self.softcap = softcap
        self.sinks = None if sinks is None else keras.initializers.get(sinks)
        self.scale = scale
