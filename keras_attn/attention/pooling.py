"""Attention pooling: one or several vectors for a whole sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn import masks
from keras_attn.base.checks import check_last_axis, check_number, check_positive
from keras_attn.base.projection_layer import ProjectionArguments, ProjectionLayer, with_projection_arguments
from keras_attn.base.recording import record
from keras_attn.base.slot import register
from keras_attn.base.slot_layers import joined
from keras_attn.base.types import Results, Shape, Tensor
from keras_attn.kernels import masked_softmax

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class AttentionPooling(ProjectionLayer):
    """Pools a sequence by learned attention, for example after an LSTM or an encoder.

    `e_rj = v_r . tanh(W h_j + b)`, `a_rj = softmax_j(e_rj)`, `y_r = sum_j a_rj h_j` for the hops r = 1 ... R.

    Args:
        units: Size U of the hidden layer; the size M of the inputs by default.
        num_hops: Number R of hops, each with its own vector `v_r`.
        penalty: Factor of the penalty `|A A^T - I|^2` (mean over the batch), which makes the hops attend to
            different positions (Lin et al. 2017, equation 8). It is added to the loss in training.
        use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
        kernel_constraint, bias_constraint: For `W` and `b`, as for `keras.layers.Dense`; those of the kernel
            also apply to `v`.

    Call arguments:
        inputs: `[B, S, M]`.
        mask, inputs_mask: Padding mask `[B, S]`, filled in by Keras; padding has zero weight. A row that is
            all padding returns zeros.
        return_attention_scores: Whether to return the scores too.

    Returns:
        The outputs `[B, M]`, or a pair of outputs and scores `[B, S]`; for several hops `[B, R, M]` and
        `[B, R, S]`. The outputs have no mask.

    Raises:
        ValueError: If numbers are out of range or shapes do not match.

    Example:
    >>> import numpy as np
    >>> from keras_attn import AttentionPooling
    >>> states = np.ones((2, 5, 8), "float32")  # for example from an LSTM with return_sequences=True
    >>> AttentionPooling(units=16)(states).shape.as_list()
    [2, 8]
    >>> AttentionPooling(units=16, num_hops=3)(states).shape.as_list()
    [2, 3, 8]

    References:
        Yang et al. 2016, Hierarchical Attention Networks for Document Classification; Lin et al. 2017, A
        Structured Self-attentive Sentence Embedding, arXiv:1703.03130.
    """

    axes = {"inputs": "BSM", "mask": "BS", "inputs_mask": "BS"}

    projections = ("hidden_projection",)

    @with_projection_arguments
    def __init__(
        self,
        units: int | None = None,
        num_hops: int = 1,
        penalty: float = 0.0,
        **kwargs: Unpack[ProjectionArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_positive("units", units, optional=True)
        check_positive("num_hops", num_hops)
        check_number("penalty", penalty, at_least=0)
        self.units = units
        self.num_hops = num_hops
        self.penalty = penalty

    def build(self, inputs_shape: Shape) -> None:
        units = self.units or check_last_axis("inputs", inputs_shape)
        self.hidden_projection = self.make_projection("hidden_projection", units, inputs_shape, "tanh")
        self.v = self.make_dense("v", self.num_hops, (*inputs_shape[:-1], units), use_bias=False)

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Results:
        padding = masks.first_not_none(mask, inputs_mask)
        inputs = masks.hide(inputs, padding)
        logits = ops.swapaxes(self.v(self.hidden_projection(inputs)), 1, 2)  # [B, R, S]
        visible = None if padding is None else ops.expand_dims(ops.cast(padding, "bool"), axis=1)
        scores = ops.cast(masked_softmax(logits, visible), inputs.dtype)
        pooled = ops.einsum("brs,bsm->brm", scores, inputs)  # Keras' matmul computes in float32 on PyTorch
        if training and self.penalty:
            self.add_loss(self.penalty * self._overlap(scores))
        if self.num_hops == 1:
            pooled, scores = pooled[:, 0], scores[:, 0]
        record(self, scores)
        return joined(pooled, scores if return_attention_scores else None)

    def _overlap(self, scores: Tensor) -> Tensor:
        """Returns `|A A^T - I|^2` of the scores `[B, R, S]`, averaged over the batch, in float32."""
        scores = ops.cast(scores, "float32")
        overlap = ops.matmul(scores, ops.swapaxes(scores, 1, 2)) - ops.eye(self.num_hops, dtype="float32")
        return ops.mean(ops.sum(ops.square(overlap), axis=(1, 2)))

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        """Returns None, because the outputs are no longer a sequence."""

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return self._shape(inputs_shape, inputs_shape[2])

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> keras.KerasTensor | tuple[keras.KerasTensor, keras.KerasTensor]:
        shapes = (self._shape(inputs.shape, size) for size in (inputs.shape[2], inputs.shape[1]))
        pooled, scores = (keras.KerasTensor(shape, self.compute_dtype) for shape in shapes)
        return joined(pooled, scores if return_attention_scores else None)

    def _shape(self, inputs_shape: Shape, size: int | None) -> Shape:
        return (inputs_shape[0], size) if self.num_hops == 1 else (inputs_shape[0], self.num_hops, size)
