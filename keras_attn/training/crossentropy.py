"""Crossentropy of tokens with label smoothing and a custom gradient, optionally over blocks of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from keras import ops

from keras_attn.backend import fori, in_xla, scan, value_of
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.types import Tensor
from keras_attn.kernels.softmax import LOWEST

Sums: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""For each token the maximum of its logits, the sum of `exp(logit - maximum)`, and the sum of its logits, `[B, T]`."""


def token_crossentropy(
    labels: Tensor, logits: Tensor, label_smoothing: float = 0.0, vocabulary_block: int | None = None
) -> Tensor:
    """Computes the crossentropy of each token, with its label smoothed over the vocabulary.

    `(1 - eps) * -log p_y + eps * mean_v(-log p_v)`, in which `-log p_v = m - z_v + log sum_u exp(z_u - m)`
    with m the maximum logit. The gradient `p - (1 - eps) * onehot(y) - eps / V` is recomputed from the
    logits, the maximum and the sum.

    Args:
        labels: Ids int32 `[B, T]`. An id outside the vocabulary makes its loss and gradient NaN, so that
            the error is noticed.
        logits: `[B, T, V]`.
        label_smoothing: The fraction eps in [0, 1).
        vocabulary_block: Number of logits of a token that are in float32 at once; None for all. Ignored
            under XLA, which fuses the passes without a float32 copy of the logits.

    Returns:
        `[B, T]` in float32, or float64 for float64 logits.
    """
    vocabulary = Vocabulary(logits.shape[-1], None if in_xla() else vocabulary_block)
    known = ops.logical_and(labels >= 0, labels < vocabulary.size)
    labels = ops.clip(labels, 0, vocabulary.size - 1)

    @ops.custom_gradient
    def crossentropy(logits: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        highest, share, total = vocabulary.sums(logits)
        picked = ops.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        distance = highest - ops.cast(picked, highest.dtype)
        if label_smoothing:  # logits of minus infinity have no mean
            distance = (1 - label_smoothing) * distance + label_smoothing * (highest - total / vocabulary.size)

        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> Tensor:
            if upstream is None:  # on PyTorch it is a keyword, and `arguments` are the inputs
                (upstream,) = arguments
            return vocabulary.gradient(logits, labels, highest, share, upstream, label_smoothing)

        return distance + ops.log(share), gradient

    losses = crossentropy(value_of(logits))
    return losses * ops.where(known, ops.ones_like(losses), float("nan"))


class Vocabulary:
    """The passes over the logits of a vocabulary: a loop over whole blocks, then the rest.

    Args:
        size: Number of ids V.
        block: Number of ids in a block, or None for a single block.
    """

    def __init__(self, size: int, block: int | None = None) -> None:
        self.size = size
        self.block = min(block or size, size)
        self.num_blocks = 0 if self.block == size else size // self.block
        self.rest = self.num_blocks * self.block  # first id after the whole blocks

    def sums(self, logits: Tensor) -> Sums:
        """Returns the `Sums` of logits `[B, T, V]`."""

        def update(start: Tensor | int, size: int, carry: Sums) -> Sums:
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

    def gradient(
        self, logits: Tensor, labels: Tensor, highest: Tensor, share: Tensor, upstream: Tensor, label_smoothing: float
    ) -> Tensor:
        """Returns the gradient `[B, T, V]` in the dtype of the logits; `upstream` is `[B, T]`."""
        upstream = ops.cast(upstream, share.dtype)
        highest, share, upstream, labels = (each[..., None] for each in (highest, share, upstream, labels))

        def slope(start: Tensor | int, size: int) -> Tensor:
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

    def part(self, logits: Tensor, start: Tensor | int, size: int) -> Tensor:
        """Returns the logits of `size` ids from `start` on in float32, or float64 for float64 logits."""
        if size < self.size:
            batch, length = ops.shape(logits)[:2]
            start = ops.convert_to_tensor(start, "int32")
            zero = ops.zeros_like(start)  # JAX requires indices of one dtype
            logits = ops.slice(logits, (zero, zero, start), (batch, length, size))
        return ops.cast(logits, at_least_float32(logits.dtype))
