"""Positions that are added to embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from keras_attn import masks
from keras_attn.backend import is_concrete
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import register
from keras_attn.base.tensors import bounds_of, shape_of, short_repr
from keras_attn.base.types import ArrayLike, CallArguments, LayerArguments, Shape, Tensor
from keras_attn.positions.angles import check_base, geometric_rates, position_angles, row_positions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _AddedPositions(BaseLayer):
    """The base class of added positions: `y = x + table[positions]`, computed in float32."""

    axes = {"inputs": "BTD", "positions": "BT", "mask": "BT", "inputs_mask": "BT"}

    def call(
        self,
        inputs: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        inputs = masks.hide(inputs, masks.first_not_none(mask, inputs_mask))
        positions = row_positions(inputs, positions)
        table = self.table(positions, inputs.shape[-1])  # [B or 1, T, D]
        outputs = ops.cast(inputs, at_least_float32(inputs.dtype)) + ops.cast(table, at_least_float32(inputs.dtype))
        return ops.cast(outputs, self.compute_dtype)

    def table(self, positions: Tensor, size: int) -> Tensor:
        """Returns the vectors `[B or 1, T, D]` of the integer positions `[B or 1, T]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `table(positions, size)`.")

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return tuple(inputs_shape)

    def compute_output_spec(
        self,
        inputs: keras.KerasTensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, self.compute_dtype)


@register
class Sinusoidal(_AddedPositions):
    """Adds sines and cosines of geometrically spaced wavelengths.

    `PE(p, 2i) = sin(p / base^(2i / D))`, `PE(p, 2i+1) = cos(p / base^(2i / D))`

    Args:
        base: The longest wavelength is `2 pi base`.
        interleaved: Whether each sine stands before its cosine, as above. If not, all sines stand before all
            cosines (Marian, Junczys-Dowmunt et al. 2018, arXiv:1804.00344).

    Call arguments:
        inputs: Embeddings `[B, T, D]`.
        positions: Integers `[B, T]`; 0, 1, ... T-1 by default.
        mask, inputs_mask: Padding mask `[B, T]`, filled in by Keras.

    Returns:
        The outputs `[B, T, D]`.

    Raises:
        ValueError: If `inputs` does not have rank 3, `positions` does not have the shape `[B, T]`, or an argument
            is out of range.

    Example:
    >>> import numpy as np
    >>> from keras_attn import Sinusoidal
    >>> np.round(Sinusoidal()(np.zeros((1, 2, 4), "float32"))[0], 2).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8399999737739563, 0.5400000214576721, 0.009999999776482582, 1.0]]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.5.
    """

    def __init__(self, base: float = 10000.0, interleaved: bool = True, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        check_base(base)
        if not isinstance(interleaved, bool):
            raise ValueError(f"`interleaved` must be True or False. Received: interleaved={short_repr(interleaved)}.")
        self.base = base
        self.interleaved = interleaved

    def table(self, positions: Tensor, size: int) -> Tensor:
        dtype = at_least_float32(self.compute_dtype)
        rates = geometric_rates(self.base, size, (size + 1) // 2)
        angles = position_angles(positions, rates, dtype)  # [B, T, ceil(D / 2)]
        sines, cosines = ops.sin(angles), ops.cos(angles)
        if not self.interleaved:
            return ops.concatenate([sines, cosines], axis=-1)[..., :size]
        waves = ops.stack([sines, cosines], axis=-1)  # [B, T, ceil(D / 2), 2]
        return ops.reshape(waves, (*shape_of(angles)[:2], 2 * angles.shape[-1]))[..., :size]


@register
class Learned(_AddedPositions):
    """Adds a learned vector per position.

    `y_p = x_p + P_(p + offset)`

    Args:
        max_length: Number of positions that have a vector.
        offset: Number of rows of the table before that of position 0, which no position uses (RoBERTa, BART).

    Call arguments and Returns are those of `Sinusoidal`.

    Raises:
        ValueError: If `inputs` is longer than `max_length`, or a position is not from 0 to
            `max_length - 1`. Only static lengths and concrete positions are checked. In a compiled graph,
            the embedding lookup of these positions raises an error (TensorFlow on a CPU), or returns
            zeros (TensorFlow on a GPU), the nearest vector (TensorFlow under XLA), or NaN (JAX).

    Example:
    >>> import numpy as np
    >>> from keras_attn import Learned
    >>> Learned(max_length=32)(np.zeros((2, 7, 4), "float32")).shape.as_list()
    [2, 7, 4]

    References:
        Gehring et al. 2017, Convolutional Sequence to Sequence Learning, arXiv:1705.03122.
    """

    def __init__(self, max_length: int, offset: int = 0, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        check_positive("max_length", max_length)
        check_number("offset", offset, int, at_least=0)
        self.max_length = max_length
        self.offset = offset

    def build(self, inputs_shape: Shape) -> None:
        self.embedding = keras.layers.Embedding(
            self.max_length + self.offset, inputs_shape[-1], dtype=self.policy_of("embedding"), name="embedding"
        )
        self.build_child(self.embedding, inputs_shape[:-1])

    def check_arguments(self, arguments: CallArguments) -> dict[str, int]:
        sizes = super().check_arguments(arguments)
        if arguments.get("positions") is None and (sizes.get("T") or 0) > self.max_length:
            raise ValueError(
                f"`inputs` may have at most max_length={self.max_length} positions. "
                f"Received: inputs.shape={tuple(arguments['inputs'].shape)}."
            )
        if arguments.get("positions") is not None:
            self.check_positions("positions", arguments["positions"])
        return sizes

    def check_positions(self, name: str, positions: ArrayLike) -> None:
        """Raises a `ValueError` for positions without a vector, if the positions are concrete."""
        symbolic = isinstance(positions, keras.KerasTensor)
        if symbolic or not (isinstance(positions, np.ndarray) or is_concrete(positions)) or 0 in positions.shape:
            return
        lowest, highest = bounds_of(positions)
        if lowest < 0 or highest >= self.max_length:
            raise ValueError(
                f"`{name}` must be from 0 to {self.max_length - 1}, the positions of a table of max_length="
                f"{self.max_length}. Received: {name} from {lowest} to {highest}."
            )

    def table(self, positions: Tensor, size: int) -> Tensor:
        return self.embedding(positions + self.offset if self.offset else positions)


@register
class NoPosition(_AddedPositions):
    """Adds nothing: for models whose attention layers encode the positions."""

    def call(
        self,
        inputs: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        return masks.hide(inputs, masks.first_not_none(mask, inputs_mask))
