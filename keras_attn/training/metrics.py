"""Metrics of sequences of ids without padding: token and sequence accuracy, perplexity, edit distance."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_axes, check_positive
from keras_attn.base.slot import register
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.tensors import to_tensor
from keras_attn.base.types import ArrayLike, Config, DType, Tensor
from keras_attn.training.crossentropy import token_crossentropy
from keras_attn.training.losses import checked_ids, labels_and_logits
from keras_attn.training.texts import PackedTexts, RowTexts
from keras_attn.training.weights import metric_weights, real_tokens


class _Ratio(keras.metrics.Metric):
    """A sum over all batches divided by another one; 0 if the divisor is 0."""

    def __init__(self, name: str, dtype: DType | None, special_ids: SpecialIds | None) -> None:
        # Sums in half precision stop growing: 256 + 1 is 256 in bfloat16.
        super().__init__(name=name, dtype=dtype or at_least_float32(keras.config.floatx()))
        self.total = self.add_variable((), "zeros", self.dtype, name="total")
        self.count = self.add_variable((), "zeros", self.dtype, name="count")
        self.special_ids = special_ids_or_default(special_ids)

    def add(self, values: Tensor, counts: Tensor) -> None:
        """Adds the sums of weighted values and of weighted counts."""
        for variable, numbers in ((self.total, values), (self.count, counts)):
            variable.assign_add(ops.sum(ops.cast(numbers, self.dtype)))

    def result(self) -> Tensor:
        return ops.divide_no_nan(self.total, self.count)

    def get_config(self) -> Config:
        return {**super().get_config(), "special_ids": keras.saving.serialize_keras_object(self.special_ids)}


@register
class TokenAccuracy(_Ratio):
    """The fraction of real tokens that are predicted correctly.

    `sum_t w_t [argmax_v z_t(v) = y_t] / sum_t w_t` over the tokens that are not padding.

    Args:
        name: Name of the metric.
        dtype: Dtype of its sums; by default Keras' `floatx`, or float32 if that is half precision.
        special_ids: The `SpecialIds` of the labels; by default 0 is padding and 2 the end.

    Call arguments (of `update_state`):
        y_true: Ids `[B, T]`.
        y_pred: Logits `[B, T, V]`, or ids `[B, T]`.
        sample_weight: `[B]`, `[B, 1]` or `[B, T]`, as for `MaskedCrossentropy`; not negative.

    Raises:
        ValueError: For shapes that do not match, ids that are not integers, and in eager calls for weights
            that are negative or not finite; in a graph these make the result NaN.

    Example:
    >>> import numpy as np
    >>> from keras_attn.training import TokenAccuracy
    >>> metric = TokenAccuracy()
    >>> metric.update_state(np.array([[5, 6, 2, 0]]), np.array([[5, 7, 2, 9]]))
    >>> round(float(metric.result()), 4)
    0.6667
    """

    def __init__(
        self, name: str = "token_accuracy", dtype: DType | None = None, special_ids: SpecialIds | None = None
    ) -> None:
        super().__init__(name, dtype, special_ids)

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        labels, ids = paired_ids(y_true, y_pred, self.special_ids)
        check_axes({"y_true": "BT", "y_pred": "BT"}, {"y_true": labels, "y_pred": ids})
        weights = metric_weights(labels, y_pred, sample_weight, self.dtype, self.special_ids)
        self.add(weights * ops.cast(ops.equal(labels, ids), self.dtype), weights)


@register
class SequenceAccuracy(_Ratio):
    """The fraction of sequences without an error; one minus it is the word error rate of spelling tasks.

    A sequence ends before its first end id or padding. It is correct if it has the same tokens as the
    reference, and no others. Rows with only padding are not counted. With logits, a row may hold
    several packed texts: each end id among the labels ends one, and each text is counted. With ids, a
    row holds one text.

    Args:
        name: Name of the metric.
        dtype: Dtype of its sums; by default Keras' `floatx`, or float32 if that is half precision.
        special_ids: The `SpecialIds` of the labels; by default 0 is padding and 2 the end.

    Call arguments (of `update_state`):
        y_true: Ids `[B, T]`.
        y_pred: Logits `[B, T, V]`, which are read where there is a label, or ids `[B, L]` of
            any length, as `generate` returns them.
        sample_weight: `[B]`, `[B, 1]` or `[B, T]`, as for `MaskedCrossentropy`; not negative. The weight
            of a text is the mean of the weights of its real labels; all of its tokens are compared,
            also those of weight 0.

    Raises:
        ValueError: For shapes that do not match, ids that are not integers, and in eager calls for weights
            that are negative or not finite; in a graph these make the result NaN.

    Example:
    >>> import numpy as np
    >>> from keras_attn.training import SequenceAccuracy
    >>> metric = SequenceAccuracy()
    >>> metric.update_state(np.array([[5, 6, 2], [5, 2, 0]]), np.array([[5, 6, 2, 9], [5, 7, 2, 0]]))
    >>> float(metric.result())
    0.5
    """

    def __init__(
        self, name: str = "sequence_accuracy", dtype: DType | None = None, special_ids: SpecialIds | None = None
    ) -> None:
        super().__init__(name, dtype, special_ids)

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        texts = texts_of(y_true, y_pred, sample_weight, self.dtype, self.special_ids)
        self.add(texts.weights * ops.cast(texts.right(), self.dtype), texts.weights)


@register
class EditDistance(_Ratio):
    """The error rate of recognition tasks: edits over the length of the references.

    `sum_b w_b d(prediction_b, reference_b) / sum_b w_b length(reference_b)`, where d is the minimum
    number of insertions, deletions and substitutions (Levenshtein). It may be above 1. For ids of
    characters or phonemes this is their error rate, for ids of words the word error rate.

    A sequence ends before its first end id or padding. Rows with only padding are not counted;
    without any reference token the rate is 0. Packed rows and weights as for `SequenceAccuracy`.

    Args, call arguments and Raises as for `SequenceAccuracy`.

    Example:
    >>> import numpy as np
    >>> from keras_attn.training import EditDistance
    >>> metric = EditDistance()
    >>> metric.update_state(np.array([[5, 6, 7, 8, 2]]), np.array([[5, 7, 8, 2]]))
    >>> float(metric.result())
    0.25

    References:
        Levenshtein 1966, Binary Codes Capable of Correcting Deletions, Insertions, and
        Reversals; Wagner and Fischer 1974, The String-to-String Correction Problem.
    """

    def __init__(
        self, name: str = "edit_distance", dtype: DType | None = None, special_ids: SpecialIds | None = None
    ) -> None:
        super().__init__(name, dtype, special_ids)

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        texts = texts_of(y_true, y_pred, sample_weight, self.dtype, self.special_ids)
        self.add(texts.edits(), texts.costs()[0])


@register
class Perplexity(_Ratio):
    """The exponential of the mean crossentropy of the real tokens of all batches.

    `exp(sum_t w_t -log p_t(y_t) / sum_t w_t)` over the tokens that are not padding, without label
    smoothing; its logarithm is the exact loss of a data set.

    Args:
        vocabulary_block: As for `MaskedCrossentropy`.
        name: Name of the metric.
        dtype: Dtype of its sums; by default Keras' `floatx`, or float32 if that is half precision.
        special_ids: The `SpecialIds` of the labels; by default 0 is padding and 2 the end.

    Call arguments (of `update_state`):
        y_true: Ids `[B, T]`.
        y_pred: Logits `[B, T, V]`.
        sample_weight: `[B]`, `[B, 1]` or `[B, T]`, as for `MaskedCrossentropy`; not negative.

    Raises:
        ValueError: As for `MaskedCrossentropy`, and in eager calls for negative weights.

    Example:
    >>> import numpy as np
    >>> from keras_attn.training import Perplexity
    >>> metric = Perplexity()
    >>> metric.update_state(np.array([[5, 2, 0]]), np.zeros((1, 3, 8), "float32"))
    >>> round(float(metric.result()), 4)
    8.0
    """

    def __init__(
        self,
        vocabulary_block: int | None = None,
        name: str = "perplexity",
        dtype: DType | None = None,
        special_ids: SpecialIds | None = None,
    ) -> None:
        super().__init__(name, dtype, special_ids)
        check_positive("vocabulary_block", vocabulary_block, optional=True)
        self.vocabulary_block = vocabulary_block

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        labels, logits = labels_and_logits(y_true, y_pred)
        losses = token_crossentropy(labels, logits, vocabulary_block=self.vocabulary_block)
        weights = metric_weights(labels, y_pred, sample_weight, self.dtype, self.special_ids)
        losses = ops.where(ops.equal(weights, 0), 0, ops.cast(losses, self.dtype))  # NaN times 0 is NaN
        self.add(weights * losses, weights)

    def result(self) -> Tensor:
        return ops.exp(super().result())

    def get_config(self) -> Config:
        return {**super().get_config(), "vocabulary_block": self.vocabulary_block}


def paired_ids(labels: ArrayLike, predictions: ArrayLike, special_ids: SpecialIds) -> tuple[Tensor, Tensor]:
    """Returns the ids of labels `[B, T]` and of predictions, given as ids `[B, L]` or logits `[B, T, V]`."""
    labels = checked_ids("y_true", labels)
    predictions = to_tensor("y_pred", predictions)
    if len(predictions.shape) != 3:
        check_axes({"y_true": "BT", "y_pred": "BL"}, {"y_true": labels, "y_pred": predictions})
        return labels, checked_ids("y_pred", predictions)
    check_axes({"y_true": "BT", "y_pred": "BTV"}, {"y_true": labels, "y_pred": predictions})
    if keras.backend.is_int_dtype(keras.backend.standardize_dtype(predictions.dtype)):
        raise ValueError(
            "`y_pred` must be ids [B, L], or logits [B, T, V] of a floating dtype. "
            f"Received: {predictions.dtype} of shape {tuple(predictions.shape)}."
        )
    ids = ops.cast(ops.argmax(predictions, axis=-1), "int32")
    return labels, ops.where(special_ids.is_real(labels), ids, special_ids.absent)


def texts_of(
    labels: ArrayLike, predictions: ArrayLike, sample_weight: ArrayLike | None, dtype: DType, special_ids: SpecialIds
) -> RowTexts:
    """Returns references and predictions: with ids one text per row, with logits one text per end id."""
    predictions = predictions if ops.is_tensor(predictions) else ops.convert_to_tensor(predictions)
    aligned = len(predictions.shape) == 3
    masked = predictions if aligned else None
    labels, ids = paired_ids(labels, predictions, special_ids)
    weights = metric_weights(labels, masked, sample_weight, dtype, special_ids)
    real = real_tokens(labels, masked, special_ids)
    return (PackedTexts if aligned else RowTexts)(labels, ids, real, weights, special_ids)
