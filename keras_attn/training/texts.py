"""The texts of a batch beside their references: one in a row, or several in a packed row."""

from keras import ops

from keras_attn.training.edit_distance import cut, edit_distances


class RowTexts:
    """Rows of one text each, predicted as ids of any length.

    Args:
        labels: Ids `[B, T]`.
        ids: Predictions `[B, L]`.
        real: Which labels count, boolean `[B, T]`.
        weights: Of the labels, `[B, T]`.
        special_ids: Those of labels and predictions.

    Attributes:
        reference, read: Ids `[B, T]` and `[B, L]`, padding where no token counts.
        weights: Of each text, the mean of the weights of its real labels, `[B, 1]`.
    """

    def __init__(self, labels, ids, real, weights, special_ids):
        number = ops.sum(ops.cast(real, weights.dtype), axis=1, keepdims=True)
        self.weights = ops.divide_no_nan(ops.sum(weights, axis=1, keepdims=True), number)
        self.absent = special_ids.absent
        self.reference, self.read = cut(labels, special_ids), cut(ids, special_ids)

    def right(self):
        """Returns which texts are read without an error, boolean `[B, 1]`."""
        none = [ops.full_like(side, self.absent) for side in (self.read, self.reference)]
        padded = [self.reference, none[0]], [self.read, none[1]]
        same = ops.equal(*(ops.concatenate(parts, axis=1) for parts in padded))  # both of length T + L
        return ops.all(same, axis=1, keepdims=True)

    def costs(self):
        """Returns the weights of the reference's and of the read tokens, `[B, T]` and `[B, L]`, 0 for no token."""
        return tuple(
            self.weights * counted(side, self.absent, self.weights.dtype) for side in (self.reference, self.read)
        )

    def edits(self):
        """Returns the weighted edit distances of each row, `[B]`."""
        return edit_distances(self.reference, self.read, self.costs())


class PackedTexts(RowTexts):
    """Rows of any number of texts, each closed by its end id, predicted position by position.

    Args and attributes as `RowTexts`, with L = T; `weights` is `[B, T]`, zero behind the last text of a row.
    """

    def __init__(self, labels, ids, real, weights, special_ids):
        batch, length = ops.shape(labels)
        self.absent = special_ids.absent
        ends = ops.cast(ops.logical_and(real, ops.equal(labels, special_ids.end)), "int32")
        self.index = (
            ops.cumsum(ends, axis=1, dtype="int32") - ends
        )  # of each token's text; an end belongs to the text before it
        self._places = self.index + length * ops.arange(batch, dtype="int32")[:, None]
        number = self._sums(ops.cast(real, weights.dtype))
        self.weights = ops.divide_no_nan(self._sums(weights), number)
        self.reference = ops.where(ops.logical_and(real, ops.not_equal(labels, special_ids.end)), labels, self.absent)
        ends_read = ops.logical_or(ops.equal(ids, special_ids.end), ops.equal(ids, self.absent))
        ends_read = ops.cast(ops.logical_and(real, ends_read), "int32")
        of_texts = self._sums(ends_read)
        before = self._of_tokens(
            ops.cumsum(of_texts, axis=1, dtype="int32") - of_texts
        )  # ends read in the texts before
        open_still = ops.equal(ops.cumsum(ends_read, axis=1, dtype="int32"), before)
        self.read = ops.where(ops.logical_and(real, open_still), ids, self.absent)

    def right(self):
        wrong = ops.cast(ops.not_equal(self.reference, self.read), "int32")
        return ops.equal(self._sums(wrong), 0)

    def costs(self):
        weights = self._of_tokens(self.weights)
        return tuple(weights * counted(side, self.absent, weights.dtype) for side in (self.reference, self.read))

    def edits(self):
        return edit_distances(self.reference, self.read, self.costs(), (self.index, self.index))

    def _sums(self, values):
        """Returns the sums over the tokens of each text, `[B, T]`."""
        batch, length = ops.shape(values)
        sums = ops.segment_sum(ops.reshape(values, (-1,)), ops.reshape(self._places, (-1,)), batch * length)
        return ops.reshape(sums, (batch, length))

    def _of_tokens(self, values):
        """Returns for each token the value of its text, `[B, T]`."""
        return ops.take_along_axis(values, self.index, axis=1)


def counted(ids, absent, dtype):
    """Returns 1 for each token, and 0 where there is none."""
    return ops.cast(ops.not_equal(ids, absent), dtype)
