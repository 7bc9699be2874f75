"""The loss of sequence models: crossentropy of ids, averaged over real tokens, with optional label smoothing."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes, check_positive, check_rate
from keras_attn.base.slot import register
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.tensors import as_array
from keras_attn.base.types import ArrayLike, Config, DType, Tensor
from keras_attn.training.crossentropy import token_crossentropy
from keras_attn.training.weights import real_tokens, token_weights


@register
class MaskedCrossentropy(keras.losses.Loss):
    """Crossentropy of ids and logits, averaged over the tokens that are not padding.

    `loss = 1/n sum_t ((1 - eps) * -log p_t(y_t) + eps * mean_v(-log p_t(v)))` over the n tokens
    that are not padding, `p = softmax(logits)`. The loss of a batch with only padding is 0.

    Args:
        label_smoothing: The fraction eps of each label that is spread evenly over the vocabulary, in
            [0, 1).
        vocabulary_block: Number of a token's logits that are in float32 at once: the log-sum-exp
            loops over blocks of the vocabulary, and the gradient recomputes them, so that bfloat16
            logits are never copied to float32 as a whole. None for a single block. Ignored under
            XLA, which needs no copy.
        reduction: As in Keras: `"sum_over_batch_size"` and `"mean"` divide by the number of real
            tokens, `"mean_with_sample_weight"` by the sum of their weights, `"sum"` does not
            divide, `"none"` returns `[B, T]` with 0 at padding.
        name: Name of the loss.
        special_ids: The `SpecialIds` of the labels; padding is 0 by default.

    Call arguments:
        y_true: Ids `[B, T]`. In a graph, an id that is not an integer or is outside the
            vocabulary makes the loss and its gradient NaN: `keras.callbacks.TerminateOnNaN` stops there.
        y_pred: Logits `[B, T, V]`; low precision is cast to float32. Logits at padding, even NaN, have
            no effect. Positions that a Keras mask on the logits hides count as padding.
        sample_weight: `[B]` or `[B, 1]`, a weight of each text, or `[B, T]`, of each token; the losses
            are multiplied by it. All metrics of this package take the same weights (see below).

    Returns:
        A scalar, or `[B, T]`, in float32.

    `fit` and `evaluate` report the mean of the batches' losses, weighted by their numbers of rows; if
    batches hold different fractions of padding, this is not exactly the mean over all tokens.
    `Perplexity` counts the tokens of all batches.

    Weights, here and in the metrics: padding has the weight 0. The weight of a text is the mean of the
    weights of its real tokens, including its end id, so `[B]` and `[B, 1]` are the weights of texts; a
    text with only zero weights does not count. Weights may be booleans, integers or floats, and must be
    finite: otherwise eager calls raise an error, and in a graph the loss is NaN. Only the loss takes
    negative weights (policy gradients). Keras' `class_weight` does not work for sequences: it reads a
    row of ids as the one-hot vector of one class. Use a `sample_weight` `[B, T]` instead, for instance
    `class_weights[labels]`.

    Raises:
        ValueError: For shapes that do not match; in eager calls also for labels that are not integers or
            outside the vocabulary, and for weights that are not finite.

    Example:
    >>> import numpy as np
    >>> from keras_attn.training import MaskedCrossentropy
    >>> labels, logits = np.array([[5, 2, 0]]), np.zeros((1, 3, 8), "float32")
    >>> round(float(MaskedCrossentropy(label_smoothing=0.1)(labels, logits)), 4)  # log 8
    2.0794

    References:
        Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision,
        arXiv:1512.00567, section 7; Vaswani et al. 2017, arXiv:1706.03762, section 5.4.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        vocabulary_block: int | None = None,
        reduction: str = "sum_over_batch_size",
        name: str = "masked_crossentropy",
        special_ids: SpecialIds | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        check_rate("label_smoothing", label_smoothing)
        check_positive("vocabulary_block", vocabulary_block, optional=True)
        self.label_smoothing = label_smoothing
        self.vocabulary_block = vocabulary_block
        self.special_ids = special_ids_or_default(special_ids)

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> Tensor:
        # Keras' own `__call__` would copy the logits to float32 first.
        losses = self.call(y_true, y_pred)  # [B, T]
        weights = token_weights(y_true, y_pred, sample_weight, losses.dtype, self.special_ids)
        losses = ops.where(ops.equal(weights, 0), 0, losses)  # NaN times 0 is NaN
        if self.reduction in ("sum_over_batch_size", "mean"):
            # Keras divides by the number of all tokens.
            real = ops.sum(ops.cast(real_tokens(y_true, y_pred, self.special_ids), losses.dtype))
            weights = weights * ops.divide_no_nan(ops.cast(ops.size(losses), losses.dtype), real)
        return _Reduced(self.reduction, self.name, losses.dtype)(weights, losses, weights)

    def call(self, y_true: ArrayLike, y_pred: ArrayLike) -> Tensor:
        """Returns the loss of each token, `[B, T]`, 0 at padding."""
        labels, logits = labels_and_logits(y_true, y_pred)
        real = self.special_ids.is_real(labels)
        losses = token_crossentropy(labels, logits, self.label_smoothing, self.vocabulary_block)
        return ops.where(real, losses, 0)

    def get_config(self) -> Config:
        own = {"label_smoothing": self.label_smoothing, "vocabulary_block": self.vocabulary_block}
        special_ids = keras.saving.serialize_keras_object(self.special_ids)
        return {**super().get_config(), **own, "special_ids": special_ids}


class _Reduced(keras.losses.Loss):
    """Keras' reductions of computed losses, with its scaling for distributed training."""

    def __init__(self, reduction: str, name: str, dtype: DType) -> None:
        super().__init__(name, reduction, keras.backend.standardize_dtype(dtype))

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred


def labels_and_logits(labels: ArrayLike, logits: ArrayLike) -> tuple[Tensor, Tensor]:
    """Returns labels in int32 and logits as tensors, after checking shapes, dtypes and concrete values."""
    logits = ops.convert_to_tensor(logits)
    check_axes({"y_true": "BT", "y_pred": "BTV"}, {"y_true": labels, "y_pred": logits})
    size = logits.shape[-1]
    if size is None:
        raise ValueError(f"`y_pred` must have a static last axis. Received: y_pred.shape={tuple(logits.shape)}.")
    labels = checked_ids("y_true", labels)
    if is_concrete(labels) and 0 not in labels.shape:
        lowest, highest = int(ops.min(labels)), int(ops.max(labels))
        if lowest < 0 or highest >= size:
            raise ValueError(f"`y_true` must hold ids from 0 to {size - 1}. Received: ids from {lowest} to {highest}.")
    return labels, logits


def checked_ids(name: str, ids: ArrayLike) -> Tensor:
    """Returns ids as an int32 tensor, after checking that they are integers; -1 for fractions and overflows."""
    ids = as_array(name, ids)
    # Under tf.distribute, Keras traces the training once, in a graph, for the mean of the replicas' labels.
    known = isinstance(ids, (np.ndarray, keras.KerasTensor)) or is_concrete(ids)
    if keras.backend.is_int_dtype(keras.backend.standardize_dtype(ids.dtype)):
        narrow = ops.cast(ids, "int32")
        if keras.backend.standardize_dtype(ids.dtype) not in ("int64", "uint32", "uint64"):
            return narrow
        return ops.where(ids > 2**31 - 1, -1, narrow)  # a cast would wrap around
    if known:
        raise ValueError(f"`{name}` must hold integer ids. Received: {name}.dtype={ids.dtype}.")
    return ops.cast(ops.where(ops.equal(ids, ops.floor(ids)), ids, -1), "int32")
