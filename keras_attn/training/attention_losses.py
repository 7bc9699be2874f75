"""Losses on attention weights, added to the loss of the tokens."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.base.checks import check_axes, check_number
from keras_attn.base.slot import register
from keras_attn.base.tensors import to_tensor
from keras_attn.base.types import ArrayLike, Config, DType, Tensor


class AttentionLoss(keras.losses.Loss):
    """Base class of losses on attention weights: a mean over the real steps of each row.

    A subclass defines `elementwise(weights, real)`, whose sum over the memory is the loss of a step.

    Args:
        weight: Factor of the loss, as it is added to another one.
        reduction, name, dtype: As for `keras.losses.Loss`.
    """

    def __init__(self, weight: float, reduction: str, name: str, dtype: DType) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check_number("weight", weight, at_least=0)
        self.weight = weight

    def elementwise(self, weights: Tensor, real: Tensor) -> Tensor:
        """Returns the loss of each step and memory position, `[B, T, S]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `elementwise`.")

    def call(self, y_true: ArrayLike, y_pred: ArrayLike) -> Tensor:
        """Returns the loss of each row, `[B]`."""
        real, weights = to_tensor("y_true", y_true), to_tensor("y_pred", y_pred)
        check_axes({"y_true": "BTS", "y_pred": "BTS"}, {"y_true": real, "y_pred": weights})
        real = ops.not_equal(real, 0)  # Keras makes floats of the labels
        weights = ops.where(real, ops.cast(weights, "float32"), 0)
        steps = ops.cast(ops.any(real, axis=-1), "float32")  # [B, T]
        total = ops.sum(ops.where(real, self.elementwise(weights, real), 0), axis=(1, 2))
        return self.weight * ops.divide_no_nan(total, ops.sum(steps, axis=1))

    def get_config(self) -> Config:
        return {**super().get_config(), "weight": self.weight}


@register
class CoverageLoss(AttentionLoss):
    """The coverage loss of See et al.: a penalty for attention to what was attended to before.

    `loss_i = sum_j min(a_ij, c_ij)`, `c_i = sum_(k<i) a_k`, averaged over the real steps i of each row.

    Args:
        weight: Factor of the loss, 1 in the paper.
        reduction, name, dtype: As for `keras.losses.Loss`.

    Call arguments:
        y_true: Boolean `[B, T, S]`, True where step and memory position are real.
        y_pred: Attention weights `[B, T, S]`.

    Returns:
        A scalar, or `[B]` for `reduction="none"`.

    Raises:
        ValueError: If `weight` is negative or the shapes do not match.

    Example:
    >>> from keras_attn import AdditiveRNNAttention
    >>> from keras_attn.training import CoverageLoss
    >>> layer = AdditiveRNNAttention(16, attention_loss=CoverageLoss())

    References:
        See et al. 2017, Get To The Point: Summarization with Pointer-Generator Networks, arXiv:1704.04368.
    """

    def __init__(
        self,
        weight: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str = "coverage_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(weight, reduction, name, dtype)

    def elementwise(self, weights: Tensor, real: Tensor) -> Tensor:
        return ops.minimum(weights, ops.cumsum(weights, axis=1, dtype="float32") - weights)


@register
class GuidedAttentionLoss(AttentionLoss):
    """The guided attention loss of Tachibana et al.: a penalty for attention far from the diagonal.

    `loss = 1/(T S) sum_ij a_ij (1 - exp(-(i/T - j/S)^2 / (2 g^2)))` over the T real steps and S real memory
    positions of each row, both counted from 0.

    Args:
        sigma: Width g of the diagonal, relative to the lengths.
        weight: Factor of the loss, 1 in the paper.
        reduction, name, dtype: As for `keras.losses.Loss`.

    Call arguments, Returns and Raises as `CoverageLoss`; `sigma` must be positive.

    Example:
    >>> from keras_attn import AdditiveRNNAttention
    >>> from keras_attn.training import GuidedAttentionLoss
    >>> layer = AdditiveRNNAttention(16, attention_loss=GuidedAttentionLoss(sigma=0.4))

    References:
        Tachibana et al. 2018, Efficiently Trainable Text-to-Speech System Based on Deep Convolutional
        Networks with Guided Attention, arXiv:1710.08969.
    """

    def __init__(
        self,
        sigma: float = 0.2,
        weight: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str = "guided_attention_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(weight, reduction, name, dtype)
        check_number("sigma", sigma, above=0)
        self.sigma = sigma

    def elementwise(self, weights: Tensor, real: Tensor) -> Tensor:
        steps, positions = ops.any(real, axis=2), ops.any(real, axis=1)
        size = ops.sum(ops.cast(positions, "float32"), axis=1)[:, None, None]
        distance = progress(steps)[:, :, None] - progress(positions)[:, None, :]
        penalty = 1 - ops.exp(-ops.square(distance) / (2 * self.sigma**2))
        return weights * penalty / ops.maximum(size, 1)

    def get_config(self) -> Config:
        return {**super().get_config(), "sigma": self.sigma}


def progress(real: Tensor) -> Tensor:
    """Returns where each real position is in its row, 0 for the first, below 1 for the last; `[B, T]` -> `[B, T]`."""
    count = ops.cumsum(ops.cast(real, "float32"), axis=1, dtype="float32")
    return (count - 1) / ops.maximum(count[:, -1:], 1)
