"""The loss of sequence models: crossentropy of ids, the mean over real tokens, labels smoothed on request."""

import keras
import numpy as np
from keras import ops

from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes, check_positive, check_rate
from keras_attn.base.slot import register
from keras_attn.base.special_ids import special_ids_or_default
from keras_attn.base.tensors import as_array
from keras_attn.training.crossentropy import token_crossentropy
from keras_attn.training.weights import real_tokens, token_weights


@register
class MaskedCrossentropy(keras.losses.Loss):
    """Crossentropy of ids and logits, the mean over the tokens that are not padding.

    `loss = 1/n sum_t ((1 - eps) * -log p_t(y_t) + eps * mean_v(-log p_t(v)))` over the n tokens
    that are not padding, `p = softmax(logits)`. A batch of padding alone has the loss 0.

    Args:
        label_smoothing: The share eps of each label that is spread evenly over the vocabulary, in
            [0, 1).
        vocabulary_block: How many of a token's logits are held in float32 at a time: the
            log-sum-exp goes over the vocabulary in such blocks, and the gradient computes them
            again, so that logits in bfloat16 are never copied to float32 as a whole. None takes
            all at once, and so does XLA in any case: it needs no copy.
        reduction: As in Keras: `"sum_over_batch_size"` and `"mean"` divide by the number of real
            tokens, `"mean_with_sample_weight"` by the sum of their weights, `"sum"` does not
            divide, `"none"` returns `[B, T]`, padding zero.
        name: Of the loss.
        special_ids: The `SpecialIds` of the labels; padding is 0 by default.

    Call arguments:
        y_true: Ids `[B, T]`. In a graph, an id that is no integer or is outside the
            vocabulary makes the loss and its gradient NaN: `keras.callbacks.TerminateOnNaN` stops there.
        y_pred: Logits `[B, T, V]`; low precision is widened to float32. What stands at padding,
            NaN included, counts for nothing. A padding mask of Keras on the logits is honoured.
        sample_weight: `[B]` or `[B, 1]`, a weight of each text, or `[B, T]`, of each token; the losses
            are multiplied by it. The same weights serve all metrics of this package (see below).

    Returns:
        A scalar, or `[B, T]`, in float32.

    The loss of an epoch, of `fit` and of `evaluate` alike, is Keras' mean over batches weighted by
    their numbers of rows; where batches hold different shares of padding, that is not quite the
    mean over all tokens. `Perplexity` counts tokens over all batches.

    Weights, here and in the metrics: padding weighs 0, whatever stands there. The weight of a text is
    the mean of the weights of its real tokens, its end included, so that `[B]` and `[B, 1]` are the
    texts' own; a text whose tokens all weigh 0 does not count. Weights may be booleans, integers or
    floats, and must be finite: NaN among them is an error in eager calls and makes the loss NaN in a
    graph. Negative ones are for the loss only (policy gradients). Keras' `class_weight` is not for
    sequences: it takes a row of ids for one-hot numbers of one class. Make a `sample_weight`
    `[B, T]` in its place, for instance `class_weights[labels]`.

    Raises:
        ValueError: For shapes that do not fit, and in eager calls for labels that are no integers or
            outside the vocabulary, and weights that are not finite.

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
        label_smoothing=0.0,
        vocabulary_block=None,
        reduction="sum_over_batch_size",
        name="masked_crossentropy",
        special_ids=None,
    ):
        super().__init__(name=name, reduction=reduction)
        check_rate("label_smoothing", label_smoothing)
        check_positive("vocabulary_block", vocabulary_block, optional=True)
        self.label_smoothing = label_smoothing
        self.vocabulary_block = vocabulary_block
        self.special_ids = special_ids_or_default(special_ids)

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras' own call would copy the logits to float32 first.
        losses = self.call(y_true, y_pred)  # [B, T]
        weights = token_weights(y_true, y_pred, sample_weight, losses.dtype, self.special_ids)
        losses = ops.where(ops.equal(weights, 0), 0, losses)  # NaN times 0 is NaN
        if self.reduction in ("sum_over_batch_size", "mean"):
            # Keras divides by the number of all tokens.
            real = ops.sum(ops.cast(real_tokens(y_true, y_pred, self.special_ids), losses.dtype))
            weights = weights * ops.divide_no_nan(ops.cast(ops.size(losses), losses.dtype), real)
        return _Reduced(self.reduction, self.name, losses.dtype)(weights, losses, weights)

    def call(self, y_true, y_pred):
        """Returns the loss of each token, `[B, T]`, zero for padding."""
        labels, logits = checked(y_true, y_pred)
        real = self.special_ids.is_real(labels)
        losses = token_crossentropy(labels, logits, self.label_smoothing, self.vocabulary_block)
        return ops.where(real, losses, 0)

    def get_config(self):
        own = {"label_smoothing": self.label_smoothing, "vocabulary_block": self.vocabulary_block}
        special_ids = keras.saving.serialize_keras_object(self.special_ids)
        return {**super().get_config(), **own, "special_ids": special_ids}


class _Reduced(keras.losses.Loss):
    """Keras' reductions of losses that are known, with its scaling for distributed training."""

    def __init__(self, reduction, name, dtype):
        super().__init__(name, reduction, keras.backend.standardize_dtype(dtype))

    def call(self, y_true, y_pred):
        return y_pred


def checked(labels, logits):
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


def checked_ids(name, ids):
    """Returns ids as an int32 tensor, after checking that they are integers; -1 for huge ones and for fractions."""
    ids = as_array(name, ids)
    # Under tf.distribute, Keras traces a training once for the mean of the replicas' labels, in a graph.
    known = isinstance(ids, (np.ndarray, keras.KerasTensor)) or is_concrete(ids)
    if keras.backend.is_int_dtype(keras.backend.standardize_dtype(ids.dtype)):
        narrow = ops.cast(ids, "int32")
        if keras.backend.standardize_dtype(ids.dtype) not in ("int64", "uint32", "uint64"):
            return narrow
        return ops.where(ids > 2**31 - 1, -1, narrow)  # and not what they wrap around to
    if known:
        raise ValueError(f"`{name}` must hold integer ids. Received: {name}.dtype={ids.dtype}.")
    return ops.cast(ops.where(ops.equal(ids, ops.floor(ids)), ids, -1), "int32")
