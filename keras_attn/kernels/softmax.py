"""The one softmax of the library: in float32 or wider, masked, and defined for rows with nothing to see."""

import numpy as np
from keras import ops

from keras_attn.backend.precision import at_least_float32

LOWEST = float(np.finfo("float32").min)


def masked_softmax(scores, visible=None):
    """Softmax over the last axis of what is visible; zero elsewhere.

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


def softmax_of_visible(scores, visible=None):
    """`masked_softmax` but for rows with nothing to see, which it leaves to the caller: theirs are uniform."""
    scores = ops.cast(scores, at_least_float32(scores.dtype))
    if scores.shape[-1] in (0, 1):  # no key, or a single one, of which Keras warns
        return ops.ones_like(scores)
    return ops.softmax(scores if visible is None else ops.where(visible, scores, LOWEST), axis=-1)
