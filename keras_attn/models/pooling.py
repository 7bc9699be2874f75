"""Plain poolings of sequences as slot objects, the layer that applies them, and L2 normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn import masks
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import LayerArguments, Shape, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PoolingKind(Slot):
    """Base class of the plain poolings: `y = sum_j w_j h_j`, where the weights depend on the padding mask only.

    A subclass defines `weights`, or `pool` if it is no such sum.
    """

    def weights(self, real: Tensor) -> Tensor:
        """Returns the weights `[B, S]` for floats `[B, S]`, 1 for real positions and 0 for padding."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `weights(real)`.")

    def pool(self, inputs: Tensor, real: Tensor) -> Tensor:
        """Returns the vectors `[B, M]` of a sequence `[B, S, M]`, whose padding is zeros."""
        return ops.sum(inputs * self.weights(real)[..., None], axis=1)  # a product of matrices would round on GPUs


@register
class First(PoolingKind):
    """The vector of the first real position, for example of `[CLS]`."""

    def weights(self, real: Tensor) -> Tensor:
        return real * ops.cast(ops.equal(ops.cumsum(real, axis=1, dtype=real.dtype), 1), real.dtype)


@register
class Last(PoolingKind):
    """The vector of the last real position."""

    def weights(self, real: Tensor) -> Tensor:
        count = ops.cumsum(real, axis=1, dtype=real.dtype)
        return real * ops.cast(ops.equal(count, ops.sum(real, axis=1, keepdims=True)), real.dtype)


@register
class Mean(PoolingKind):
    """The mean over the real positions."""

    def weights(self, real: Tensor) -> Tensor:
        return real / ops.maximum(ops.sum(real, axis=1, keepdims=True), 1)


@register
class MeanSqrtLength(PoolingKind):
    """The sum over the real positions, divided by the square root of their number."""

    def weights(self, real: Tensor) -> Tensor:
        return real / ops.sqrt(ops.maximum(ops.sum(real, axis=1, keepdims=True), 1))


@register
class WeightedMean(PoolingKind):
    """The mean weighted by 1, 2, 3, ... from the first real position on (Muennighoff 2022, arXiv:2202.08904)."""

    def weights(self, real: Tensor) -> Tensor:
        started = ops.cast(ops.cumsum(real, axis=1, dtype=real.dtype) > 0, real.dtype)
        weights = real * ops.cumsum(started, axis=1, dtype=real.dtype)
        return weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1)


@register
class Max(PoolingKind):
    """The maximum over the real positions, of each unit."""

    def pool(self, inputs: Tensor, real: Tensor) -> Tensor:
        visible = ops.cast(real, "bool")[..., None]
        lowest = ops.min(inputs, axis=1, keepdims=True)  # no greater than any real one: the maximum is unchanged
        return ops.max(ops.where(visible, inputs, lowest), axis=1)


@register
class Pooling(BaseLayer):
    """Pools a sequence without weights: by one kind, or by several, joined.

    `y = [pool_1(h) ; ... ; pool_R(h)]`, computed in float32.

    Args:
        kind: `First()`, `Last()`, `Mean()`, `Max()`, `MeanSqrtLength()`, `WeightedMean()`, or a list of them.

    Call arguments:
        inputs: `[B, S, M]`.
        mask, inputs_mask: Padding mask `[B, S]`, filled in by Keras; a row that is all padding returns zeros.

    Returns:
        The outputs `[B, R M]` for R kinds. They have no mask.

    Raises:
        ValueError: If `kind` is none of these, or shapes do not match.

    Example:
    >>> import numpy as np
    >>> from keras_attn.models.pooling import Max, Mean, Pooling
    >>> states = np.array([[[1.0], [5.0], [9.0]]], "float32")
    >>> Pooling([Mean(), Max()])(states, mask=np.array([[True, True, False]])).numpy().tolist()
    [[3.0, 5.0]]

    References:
        Reimers and Gurevych 2019, Sentence-BERT, arXiv:1908.10084.
    """

    axes = {"inputs": "BSM", "mask": "BS", "inputs_mask": "BS"}

    def __init__(self, kind: PoolingKind | Sequence[PoolingKind] = Mean(), **kwargs: Unpack[LayerArguments]) -> None:  # noqa: B008
        super().__init__(**kwargs)
        self.kind = check_kind(kind)

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        padding = masks.first_not_none(mask, inputs_mask)
        inputs = ops.cast(masks.hide(inputs, padding), at_least_float32(inputs.dtype))
        padding = ops.ones_like(inputs[..., 0], dtype="bool") if padding is None else ops.cast(padding, "bool")
        real = ops.cast(padding, inputs.dtype)
        kinds = self.kind if isinstance(self.kind, list) else [self.kind]
        pooled = ops.concatenate([kind.pool(inputs, real) for kind in kinds], axis=-1)
        return ops.cast(pooled, self.compute_dtype)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        """Returns None, because the outputs are no longer a sequence."""

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        number = len(self.kind) if isinstance(self.kind, list) else 1
        return (inputs_shape[0], None if inputs_shape[2] is None else number * inputs_shape[2])

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> keras.KerasTensor:
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)


def check_kind(kind: PoolingKind | Sequence[PoolingKind]) -> PoolingKind | list[PoolingKind]:
    """Returns a pooling kind or a list of them, after checking them."""
    if isinstance(kind, PoolingKind):
        return kind
    if not isinstance(kind, (list, tuple)) or not kind or not all(isinstance(each, PoolingKind) for each in kind):
        raise ValueError(f"`kind` must be a plain pooling or a list of them. Received: kind={short_repr(kind)}.")
    return list(kind)


@register
class UnitLength(keras.layers.Layer):
    """Divides vectors by their L2 norm: `y = x / max(|x|, 1e-12)`, computed in float32. Zeros stay zeros."""

    def __init__(self, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.cast(inputs, at_least_float32(inputs.dtype))
        squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
        return ops.cast(x / ops.sqrt(ops.maximum(squares, 1e-24)), self.compute_dtype)

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return tuple(inputs_shape)
