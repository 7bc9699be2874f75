"""Small layers that the recipes add to those of the library, and how recipes name their layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
from keras import ops

from keras_attn.base.checks import check_number
from keras_attn.base.slot import register
from keras_attn.base.types import Config, LayerArguments, Shape, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

Layers: TypeAlias = dict[str, keras.layers.Layer]
"""New layers by name."""

LayerByName: TypeAlias = Callable[[str], keras.layers.Layer]
"""Returns a layer by its name: from `Layers` while a recipe builds its model, later from the model."""


@register
class Logits(keras.layers.Layer):
    """Returns logits in float32 under every dtype policy, with the padding mask of the ids.

    Keras' losses and metrics read this mask and ignore padding.

    Args:
        softcap: Bound of the logits: `softcap * tanh(x / softcap)` (Gemma Team 2024, arXiv:2408.00118), or None.
    """

    def __init__(self, softcap: float | None = None, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        check_number("softcap", softcap, optional=True, must="be a positive number or None", above=0)
        self.softcap = softcap
        self.supports_masking = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        return inputs if self.softcap is None else self.softcap * ops.tanh(inputs / self.softcap)

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return tuple(inputs_shape)

    def get_config(self) -> Config:
        return super().get_config() | ({} if self.softcap is None else {"softcap": self.softcap})


@register
class Bias(keras.layers.Layer):
    """Adds a vector to the last axis: `y = x + b`."""

    def __init__(self, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, inputs_shape: Shape) -> None:
        self.bias = self.add_weight(name="bias", shape=(inputs_shape[-1],), initializer="zeros")

    def call(self, inputs: Tensor) -> Tensor:
        return inputs + self.bias

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return tuple(inputs_shape)


@register
class TiedEmbedding(keras.layers.ReversibleEmbedding):
    """Embeddings that are also the matrix of the logits. Supports masks, so that Keras does not warn about them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.supports_masking = True
