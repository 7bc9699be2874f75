"""The crossentropy of each token, smoothed, with a gradient of its own; over blocks of the vocabulary on request."""

from keras import ops

from keras_attn.backend import fori, in_xla, scan, value_of
from keras_attn.backend.precision import at_least_float32
from keras_attn.kernels.softmax import LOWEST


def token_crossentropy(labels, logits, label_smoothing=0.0, vocabulary_block=None):
    """Crossentropy of each token, with its label smoothed over the vocabulary.

    `(1 - eps) * -log p_y + eps * mean_v(-log p_v)`, in which `-log p_v = m - z_v + log sum_u exp(z_u - m)`
    with m the greatest logit. The gradient `p - (1 - eps) * onehot(y) - eps / V` is computed again
    from the logits, the greatest and the sum.

    Args:
        labels: Ids int32 `[B, T]`. One outside the vocabulary makes its loss and gradient NaN, so
            that nobody trains on it unawares.
        logits: `[B, T, V]`.
        label_smoothing: The share eps in [0, 1).
        vocabulary_block: How many logits of a token are held in float32 at a time; None for all.
            XLA takes all: it fuses the passes and holds no copy, which the loop would make it do.

    Returns:
        `[B, T]` in float32, or float64 for float64 logits.
    """
    vocabulary = Vocabulary(logits.shape[-1], None if in_xla() else vocabulary_block)
    known = ops.logical_and(labels >= 0, labels < vocabulary.size)
    labels = ops.clip(labels, 0, vocabulary.size - 1)

    @ops.custom_gradient
    def crossentropy(logits):
        highest, share, total = vocabulary.sums(logits)
        picked = ops.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        behind = highest - ops.cast(picked, highest.dtype)
        if label_smoothing:  # logits of minus infinity have no mean
            behind = (1 - label_smoothing) * behind + label_smoothing * (highest - total / vocabulary.size)

        def gradient(*arguments, upstream=None):
            if upstream is None:  # PyTorch names it and hands over the inputs too
                (upstream,) = arguments
            return vocabulary.gradient(logits, labels, highest, share, upstream, label_smoothing)

        return behind + ops.log(share), gradient

    losses = crossentropy(value_of(logits))
    return losses * ops.where(known, ops.ones_like(losses), float("nan"))


class Vocabulary:
    """The two passes over the logits: whole blocks one after the other, then what is left of the vocabulary.

    Args:
        size: Number V of ids.
        block: Number of ids in a block, or None for all at once.
    """

    def __init__(self, size, block=None):
        self.size = size
        self.block = min(block or size, size)
        self.num_blocks = 0 if self.block == size else size // self.block
        self.rest = self.num_blocks * self.block  # where the last part begins

    def sums(self, logits):
        """Returns of each token's logits the greatest, `sum_v exp(z_v - greatest)`, and the sum, `[B, T]` each."""

        def update(start, size, carry):
            highest, share, total = carry
            part = self.part(logits, start, size)
            new_highest = ops.maximum(highest, ops.max(part, axis=-1, initial=LOWEST))
            new_highest = ops.cast(new_highest, part.dtype)  # Keras' maximum is float32 on PyTorch
            new_share = ops.sum(ops.exp(part - new_highest[..., None]), axis=-1)
            return new_highest, share * ops.exp(highest - new_highest) + new_share, total + ops.sum(part, axis=-1)

        zeros = ops.zeros(ops.shape(logits)[:-1], at_least_float32(logits.dtype))
        carry = zeros + LOWEST, zeros, zeros
        if self.num_blocks:
            carry = fori(0, self.num_blocks, lambda i, carry: update(i * self.block, self.block, carry), carry)
        if self.rest < self.size:
            carry = update(self.rest, self.size - self.rest, carry)
        return carry

    def gradient(self, logits, labels, highest, share, upstream, label_smoothing):
        """Returns the gradient `[B, T, V]` in the dtype of the logits; `upstream` is `[B, T]`."""
        upstream = ops.cast(upstream, share.dtype)
        highest, share, upstream, labels = (each[..., None] for each in (highest, share, upstream, labels))

        def slope(start, size):
            part = ops.exp(self.part(logits, start, size) - highest) / share - label_smoothing / self.size
            wanted = ops.equal(start + ops.arange(size, dtype="int32"), labels)
            part = ops.where(wanted, part - (1 - label_smoothing), part)
            return ops.cast(ops.where(ops.equal(upstream, 0), 0, part * upstream), logits.dtype)  # NaN times 0 is NaN

        parts = []
        if self.num_blocks:
            starts = ops.arange(0, self.rest, self.block, dtype="int32")
            batch, length = ops.shape(labels)[:2]
            like = ops.zeros((batch, length, self.block), logits.dtype)
            _, blocks = scan(lambda carry, start: (carry, slope(start, self.block)), (), starts, like)
            parts.append(ops.reshape(ops.moveaxis(blocks, 0, -2), (batch, length, self.rest)))
        if self.rest < self.size:
            parts.append(slope(self.rest, self.size - self.rest))
        return ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]

    def part(self, logits, start, size):
        """Returns the logits of some ids in float32, or float64 for float64 logits."""
        if size < self.size:
            batch, length = ops.shape(logits)[:2]
            start = ops.convert_to_tensor(start, "int32")
            zero = ops.zeros_like(start)  # of one dtype with it, as JAX wants
            logits = ops.slice(logits, (zero, zero, start), (batch, length, size))
        return ops.cast(logits, at_least_float32(logits.dtype))
