"""The rule of `sample_weight`, one for the loss and all metrics of this package.

- `[B]` or `[B, 1]` weighs texts: each token of a text has the weight of its text. `[B, T]` weighs tokens.
- Padding, and what a Keras mask on the predictions hides, weighs 0, whatever the weight says there.
- The weight of a text is the mean of the weights of its real tokens, its end included. A text whose tokens all
  weigh 0 does not count. A weight says how much a text counts, not which of its tokens are compared.
- Any dtype: booleans are 0 and 1, the others are cast to the dtype of the losses or of the metric.
- Weights must be finite, and those of metrics not negative: in eager calls a `ValueError` says so, in a graph the
  loss or the metric becomes NaN (the loss of an infinite weight infinite).
"""

import numpy as np
from keras import ops

from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_broadcast
from keras_attn.base.tensors import static_shape, to_tensor


def real_tokens(labels, predictions, special_ids):
    """Returns which tokens count, boolean `[B, T]`: those that are not padding, and that no Keras mask hides.

    Args:
        labels: Ids `[B, T]`.
        predictions: What may carry a Keras mask `[B, T]`, or None.
        special_ids: Those of the labels.
    """
    real = special_ids.is_real(ops.cast(labels, "int32"))
    mask = getattr(predictions, "_keras_mask", None)
    return real if mask is None else ops.logical_and(real, ops.cast(mask, "bool"))


def token_weights(labels, predictions, sample_weight, dtype, special_ids):
    """Returns the weight of each token, `[B, T]`.

    Args:
        labels: Ids `[B, T]`.
        predictions: What may carry a Keras mask `[B, T]`, or None.
        sample_weight: `[B]`, `[B, 1]`, `[B, T]`, or None for 1.
        dtype: Of the result.
        special_ids: Those of the labels.

    Raises:
        ValueError: For another shape, and in eager calls for weights of real tokens that are not finite.
    """
    real = real_tokens(labels, predictions, special_ids)
    if sample_weight is None:
        return ops.cast(real, dtype)
    sample_weight = to_tensor("sample_weight", sample_weight, dtype)
    if known_rank(sample_weight) is None:
        sample_weight = ops.reshape(sample_weight, (ops.shape(labels)[0], -1))
    elif known_rank(sample_weight) == 1:
        sample_weight = sample_weight[:, None]
    check_broadcast("sample_weight", sample_weight, "BT", dict(zip("BT", static_shape(labels), strict=True)))
    weights = ops.where(real, sample_weight, ops.zeros((), dtype))
    if is_concrete(weights) and not bool(ops.all(ops.isfinite(weights))):
        raise ValueError(f"`sample_weight` must be finite. Received: {num_of(~ops.isfinite(weights))} that are not.")
    return weights


def metric_weights(labels, predictions, sample_weight, dtype, special_ids):
    """Returns `token_weights` of a metric, none of them negative; arguments as there.

    Raises:
        ValueError: As `token_weights`, and in eager calls for negative weights of real tokens.
    """
    weights = token_weights(labels, predictions, sample_weight, dtype, special_ids)
    if sample_weight is None:
        return weights
    negative = ops.less(weights, 0)
    if is_concrete(weights) and bool(ops.any(negative)):
        raise ValueError(f"`sample_weight` of a metric must not be negative. Received: {num_of(negative)} that are.")
    return ops.where(negative, ops.cast(float("nan"), dtype), weights)


def known_rank(tensor):
    """Returns the number of axes; None in a TensorFlow graph that serves weights of `[B]` and of `[B, 1]`."""
    try:
        return len(tensor.shape)
    except ValueError:
        return None


def num_of(found):
    """Returns how many tokens are found, with their number, as errors say it."""
    return f"{int(np.sum(ops.convert_to_numpy(found)))} of {ops.size(found)} weights"
