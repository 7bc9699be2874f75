"""The masked softmax of the library: in float32 or wider, and zero for rows in which nothing is visible."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attn.backend.precision import at_least_float32
from keras_attn.base.types import Tensor

LOWEST = float(np.finfo("float32").min)


def masked_softmax(scores: Tensor, visible: Tensor | None = None) -> Tensor:
    """Computes the softmax over the visible entries of the last axis; the others are zero.

    `p_j = exp(s_j) / sum_k exp(s_k)` over the visible k. A row in which nothing is visible
    is zero, and so is its gradient.

    Args:
        scores: `[..., S]` of any floating dtype.
        visible: Boolean that broadcasts to `scores`, or None for all.

    Returns:
        `[..., S]` in float32, or float64 for float64 scores.
    """
    weights = softmax_of_visible(scores, visible)
    return weights if visible is None else ops.where(visible, weights, 0)


def softmax_of_visible(scores: Tensor, visible: Tensor | None = None) -> Tensor:
    """Computes `masked_softmax`, except that rows in which nothing is visible are uniform, not zero."""
    scores = ops.cast(scores, at_least_float32(scores.dtype))
    if scores.shape[-1] in (0, 1):  # no key, or a single one, for which Keras warns
        return ops.ones_like(scores)
    return ops.softmax(scores if visible is None else ops.where(visible, scores, LOWEST), axis=-1)
