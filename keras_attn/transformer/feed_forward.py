"""The position-wise feed-forward sublayer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn import masks
from keras_attn.base.checks import check_last_axis, check_positive, check_rate
from keras_attn.base.projection_layer import ProjectionArguments, ProjectionLayer, with_projection_arguments
from keras_attn.base.slot import register
from keras_attn.base.tensors import as_matrix, shape_of
from keras_attn.base.types import Activation, Shape, Tensor
from keras_attn.layers.dropout import Dropout

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PositionWise(ProjectionLayer):
    """Base class of the feed-forward layers `[B, T, D] -> [B, T, D]`; it replaces padded inputs by zeros.

    A subclass defines `hidden`. Its `build` creates the projections for it, then calls `build` of this class.
    """

    axes = {"inputs": "BTD", "mask": "BT", "inputs_mask": "BT"}

    def __init__(
        self, hidden_size: int, activation: Activation, dropout: float, **kwargs: Unpack[ProjectionArguments]
    ) -> None:
        super().__init__(**kwargs)
        check_positive("hidden_size", hidden_size)
        check_rate("dropout", dropout)
        self.hidden_size = hidden_size
        self.activation = keras.activations.get(activation)
        self.dropout = dropout
        self.hidden_dropout = Dropout(dropout, dtype=self.dtype_policy, name="hidden_dropout")

    def build(self, inputs_shape: Shape) -> None:
        size = check_last_axis("inputs", inputs_shape)
        self.out_projection = self.make_projection("out_projection", size, (*inputs_shape[:-1], self.hidden_size))

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        inputs = masks.hide(inputs, masks.first_not_none(mask, inputs_mask))
        hidden = self.hidden_dropout(self.hidden(as_matrix(inputs)), training=training)
        outputs = ops.reshape(self.out_projection(hidden), shape_of(inputs))
        return ops.cast(outputs, self.compute_dtype)  # on PyTorch, `Dense` without a bias returns float32 for float64

    def hidden(self, inputs: Tensor) -> Tensor:
        """Returns the inner units `[B T, hidden_size]` of inputs `[B T, D]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `hidden(inputs)`.")

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return tuple(inputs_shape)

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, self.compute_dtype)


@register
class FeedForward(PositionWise):
    """Two linear maps with an activation between them, applied to each position separately.

    `y = W_2 activation(W_1 x + b_1) + b_2`

    Args:
        hidden_size: Size of the inner layer.
        activation: Anything that `keras.activations.get` accepts.
        dropout: Dropout rate of the inner units in training.
        use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
        kernel_constraint, bias_constraint: For both linear maps, as for `keras.layers.Dense`; `use_bias` may be a
            list of the names of the maps that have a bias: `"hidden_projection"`, `"out_projection"`.

    Call arguments:
        inputs: `[B, T, D]`.
        mask, inputs_mask: Padding mask `[B, T]`, filled in by Keras; padded positions are treated as zeros.

    Returns:
        The outputs `[B, T, D]`.

    Raises:
        ValueError: If `inputs` is not of rank 3, or `hidden_size` is not positive.

    Example:
    >>> import numpy as np
    >>> from keras_attn import FeedForward
    >>> FeedForward(hidden_size=64)(np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 5, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.3.
    """

    projections = ("hidden_projection", "out_projection")

    @with_projection_arguments
    def __init__(
        self,
        hidden_size: int,
        activation: Activation = "relu",
        dropout: float = 0.0,
        **kwargs: Unpack[ProjectionArguments],
    ) -> None:
        super().__init__(hidden_size, activation, dropout, **kwargs)

    def build(self, inputs_shape: Shape) -> None:
        check_last_axis("inputs", inputs_shape)
        self.hidden_projection = self.make_projection(
            "hidden_projection", self.hidden_size, inputs_shape, self.activation
        )
        super().build(inputs_shape)

    def hidden(self, inputs: Tensor) -> Tensor:
        return self.hidden_projection(inputs)


@register
class GatedFeedForward(PositionWise):
    """A feed-forward layer whose inner units are gated by a second linear map.

    `y = W_3 (activation(W_1 x + b_1) * (W_2 x + b_2)) + b_3`; with `"silu"` this is SwiGLU,
    with `"gelu"` GEGLU.

    Args, Call arguments, Returns and Raises are those of `FeedForward`; the map W_1 is `"gate_projection"`.

    Example:
    >>> import numpy as np
    >>> from keras_attn import GatedFeedForward
    >>> GatedFeedForward(hidden_size=64)(np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 5, 16]

    References:
        Shazeer 2020, GLU Variants Improve Transformer, arXiv:2002.05202.
    """

    projections = ("gate_projection", "hidden_projection", "out_projection")

    @with_projection_arguments
    def __init__(
        self,
        hidden_size: int,
        activation: Activation = "silu",
        dropout: float = 0.0,
        **kwargs: Unpack[ProjectionArguments],
    ) -> None:
        super().__init__(hidden_size, activation, dropout, **kwargs)

    def build(self, inputs_shape: Shape) -> None:
        check_last_axis("inputs", inputs_shape)
        self.gate_projection = self.make_projection("gate_projection", self.hidden_size, inputs_shape, self.activation)
        self.hidden_projection = self.make_projection("hidden_projection", self.hidden_size, inputs_shape)
        super().build(inputs_shape)

    def hidden(self, inputs: Tensor) -> Tensor:
        return self.gate_projection(inputs) * self.hidden_projection(inputs)
