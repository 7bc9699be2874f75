"""The predicted texts of a batch and their references: one per row, or several in a packed row."""

from __future__ import annotations

from keras import ops

from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.types import DType, Tensor
from keras_attn.training.edit_distance import cut_at_end, edit_distances


class RowTexts:
    """Rows with one text each, predicted as ids of any length.

    Args:
        labels: Ids `[B, T]`.
        ids: Predictions `[B, L]`.
        real: Which labels count, boolean `[B, T]`.
        weights: Weights of the labels, `[B, T]`.
        special_ids: The `SpecialIds` of labels and predictions.

    Attributes:
        reference, predicted: Ids `[B, T]` and `[B, L]`, `special_ids.absent` where there is no token.
        weights: Weight of each text, the mean of the weights of its real labels, `[B, 1]`.
    """

    def __init__(self, labels: Tensor, ids: Tensor, real: Tensor, weights: Tensor, special_ids: SpecialIds) -> None:
        number = ops.sum(ops.cast(real, weights.dtype), axis=1, keepdims=True)
        self.weights = ops.divide_no_nan(ops.sum(weights, axis=1, keepdims=True), number)
        self.absent = special_ids.absent
        self.reference, self.predicted = cut_at_end(labels, special_ids), cut_at_end(ids, special_ids)

    def right(self) -> Tensor:
        """Returns which texts are predicted without an error, boolean `[B, 1]`."""
        none = [ops.full_like(side, self.absent) for side in (self.predicted, self.reference)]
        padded = [self.reference, none[0]], [self.predicted, none[1]]
        same = ops.equal(*(ops.concatenate(parts, axis=1) for parts in padded))  # both of length T + L
        return ops.all(same, axis=1, keepdims=True)

    def costs(self) -> tuple[Tensor, Tensor]:
        """Returns the weights of reference and predicted tokens, `[B, T]` and `[B, L]`, 0 where there is no token."""
        return self._costs(self.weights)

    def _costs(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """As `costs`, for weights that broadcast to both sides."""
        reference, predicted = (is_token(side, self.absent, weights.dtype) for side in (self.reference, self.predicted))
        return weights * reference, weights * predicted

    def edits(self) -> Tensor:
        """Returns the weighted edit distance of each row, `[B]`."""
        return edit_distances(self.reference, self.predicted, self.costs())


class PackedTexts(RowTexts):
    """Rows with any number of texts, each ended by an end id, predicted position by position.

    Args and attributes as for `RowTexts`, with L = T; `weights` is `[B, T]`, 0 after the last text of a row.
    """

    def __init__(self, labels: Tensor, ids: Tensor, real: Tensor, weights: Tensor, special_ids: SpecialIds) -> None:
        batch, length = ops.shape(labels)
        self.absent = special_ids.absent
        ends = ops.cast(ops.logical_and(real, ops.equal(labels, special_ids.end)), "int32")
        # The number of each token's text in its row; an end id belongs to the text that it ends.
        self.index = ops.cumsum(ends, axis=1, dtype="int32") - ends
        self._places = self.index + length * ops.arange(batch, dtype="int32")[:, None]
        number = self._sums(ops.cast(real, weights.dtype))
        self.weights = ops.divide_no_nan(self._sums(weights), number)
        self.reference = ops.where(ops.logical_and(real, ops.not_equal(labels, special_ids.end)), labels, self.absent)
        predicted_ends = ops.logical_or(ops.equal(ids, special_ids.end), ops.equal(ids, self.absent))
        predicted_ends = ops.cast(ops.logical_and(real, predicted_ends), "int32")
        counts = self._sums(predicted_ends)
        before = self._of_tokens(ops.cumsum(counts, axis=1, dtype="int32") - counts)  # in earlier texts of the row
        not_ended = ops.equal(ops.cumsum(predicted_ends, axis=1, dtype="int32"), before)
        self.predicted = ops.where(ops.logical_and(real, not_ended), ids, self.absent)

    def right(self) -> Tensor:
        wrong = ops.cast(ops.not_equal(self.reference, self.predicted), "int32")
        return ops.equal(self._sums(wrong), 0)

    def costs(self) -> tuple[Tensor, Tensor]:
        return self._costs(self._of_tokens(self.weights))

    def edits(self) -> Tensor:
        return edit_distances(self.reference, self.predicted, self.costs(), (self.index, self.index))

    def _sums(self, values: Tensor) -> Tensor:
        """Returns the sum over the tokens of each text, `[B, T]`."""
        batch, length = ops.shape(values)
        sums = ops.segment_sum(ops.reshape(values, (-1,)), ops.reshape(self._places, (-1,)), batch * length)
        return ops.reshape(sums, (batch, length))

    def _of_tokens(self, values: Tensor) -> Tensor:
        """Returns the value of each token's text, `[B, T]`."""
        return ops.take_along_axis(values, self.index, axis=1)


def is_token(ids: Tensor, absent: int, dtype: DType) -> Tensor:
    """Returns 1 for each token, and 0 where there is none."""
    return ops.cast(ops.not_equal(ids, absent), dtype)
