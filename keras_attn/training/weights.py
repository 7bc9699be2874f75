"""The rules of `sample_weight`, for the loss and all metrics of this package.

- `[B]` or `[B, 1]` are weights of texts: each token of a text has this weight. `[B, T]` are weights of tokens.
- Padding, and tokens that a Keras mask on the predictions hides, have the weight 0.
- The weight of a text is the mean of the weights of its real tokens, including its end id. A text with only zero
  weights does not count. In metrics of texts, all tokens of a text are compared, also those of weight 0.
- Weights may have any dtype: booleans are 0 and 1, and all are cast to the dtype of the losses or of the metric.
- Weights must be finite, and those of metrics not negative: otherwise eager calls raise a `ValueError`, and in a
  graph the loss or the metric is NaN (infinite for the loss with an infinite weight).
"""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_broadcast
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.tensors import static_shape, to_tensor
from keras_attn.base.types import ArrayLike, DType, Tensor


def real_tokens(labels: ArrayLike, predictions: ArrayLike | None, special_ids: SpecialIds) -> Tensor:
    """Returns which tokens are neither padding nor hidden by a Keras mask, boolean `[B, T]`.

    Args:
        labels: Ids `[B, T]`.
        predictions: A tensor that may have a Keras mask `[B, T]`, or None.
        special_ids: The `SpecialIds` of the labels.
    """
    real = special_ids.is_real(ops.cast(labels, "int32"))
    mask = getattr(predictions, "_keras_mask", None)
    return real if mask is None else ops.logical_and(real, ops.cast(mask, "bool"))


def token_weights(
    labels: ArrayLike,
    predictions: ArrayLike | None,
    sample_weight: ArrayLike | None,
    dtype: DType,
    special_ids: SpecialIds,
) -> Tensor:
    """Returns the weight of each token, `[B, T]`.

    Args:
        labels: Ids `[B, T]`.
        predictions: A tensor that may have a Keras mask `[B, T]`, or None.
        sample_weight: `[B]`, `[B, 1]`, `[B, T]`, or None for 1.
        dtype: Dtype of the result.
        special_ids: The `SpecialIds` of the labels.

    Raises:
        ValueError: For other shapes, and in eager calls for weights of real tokens that are not finite.
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


def metric_weights(
    labels: ArrayLike,
    predictions: ArrayLike | None,
    sample_weight: ArrayLike | None,
    dtype: DType,
    special_ids: SpecialIds,
) -> Tensor:
    """Returns the weights for a metric, which must not be negative; arguments as for `token_weights`.

    Raises:
        ValueError: As for `token_weights`, and in eager calls for negative weights of real tokens.
    """
    weights = token_weights(labels, predictions, sample_weight, dtype, special_ids)
    if sample_weight is None:
        return weights
    negative = ops.less(weights, 0)
    if is_concrete(weights) and bool(ops.any(negative)):
        raise ValueError(f"`sample_weight` of a metric must not be negative. Received: {num_of(negative)} that are.")
    return ops.where(negative, ops.cast(float("nan"), dtype), weights)


def known_rank(tensor: Tensor) -> int | None:
    """Returns the number of axes; None in a TensorFlow graph traced for weights of both `[B]` and `[B, 1]`."""
    try:
        return len(tensor.shape)
    except ValueError:
        return None


def num_of(found: Tensor) -> str:
    """Returns the number of True values, for error messages."""
    return f"{int(np.sum(ops.convert_to_numpy(found)))} of {ops.size(found)} weights"
