"""The first and last layers of all recipes: from ids to vectors with positions, and from vectors to logits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.base.checks import check_positive
from keras_attn.base.cloning import clone
from keras_attn.base.slot import alike, register
from keras_attn.base.tensors import short_repr, to_tensor
from keras_attn.base.types import LayerArguments, Shape, Tensor
from keras_attn.masks import Pattern
from keras_attn.positions import HeadPosition, Learned, NoPosition, Sinusoidal

if TYPE_CHECKING:
    from typing_extensions import Unpack

LayerByName = Callable[[str], keras.layers.Layer]
"""Returns a layer by its name: from a dictionary while a recipe builds its model, later from the model."""


@register
class Logits(keras.layers.Layer):
    """Returns logits in float32 under every dtype policy, with the padding mask of the ids.

    Keras' losses and metrics read this mask and ignore padding.
    """

    def __init__(self, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.supports_masking = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        return inputs

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return tuple(inputs_shape)


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


def embedding_layers(
    side: str,
    vocabulary_size: int,
    size: int,
    dropout: float,
    added: keras.layers.Layer,
    tied: bool = False,
) -> dict[str, keras.layers.Layer]:
    """Returns the layers that embed ids of one side, by name; `added` is cloned; `tied` ones also compute logits."""
    check_positive(f"{side}_vocabulary_size", vocabulary_size)
    initializer = keras.initializers.RandomNormal(stddev=size**-0.5)
    name, kind = f"{side}_embedding", TiedEmbedding if tied else keras.layers.Embedding
    return {
        name: kind(vocabulary_size, size, embeddings_initializer=initializer, name=name),
        f"{side}_position": clone(added, f"{side}_position"),
        f"{side}_dropout": keras.layers.Dropout(dropout, name=f"{side}_dropout"),
    }


def embed(layer: LayerByName, side: str, ids: Tensor, positions: Tensor | None = None) -> Tensor:
    """Embeds ids `[B, T]` of one side at their positions `[B, T]`, by default 0 ... T-1."""
    embedding = layer(f"{side}_embedding")
    embedded = embedding(ids) * embedding.output_dim**0.5  # [B, T, D]
    return layer(f"{side}_dropout")(layer(f"{side}_position")(embedded, positions=positions))


def embed_chunk(
    layer: LayerByName, side: str, tokens: Tensor, index: int | Tensor, lengths: Tensor | None = None
) -> Tensor:
    """Embeds ids `[B, T]`, where the first of each row has position `index`, `[]` or `[B]`; without dropout."""
    embedding, position = layer(f"{side}_embedding"), layer(f"{side}_position")
    embedded = embedding(tokens) * embedding.output_dim**0.5  # [B, T, D]
    steps = ops.arange(ops.shape(tokens)[1], dtype="int32")[None]
    positions = ops.reshape(to_tensor("index", index, "int32"), (-1, 1)) + steps  # [B or 1, T]
    if lengths is not None:
        positions = ops.where(steps < to_tensor("lengths", lengths, "int32")[:, None], positions, 0)
    if isinstance(position, Learned):
        position.check_positions("index", positions)
    return position(embedded, positions=ops.broadcast_to(positions, ops.shape(tokens)))


def logit_layers(vocabulary_size: int, tied: bool = False) -> dict[str, keras.layers.Layer]:
    """Returns the layers that compute logits, by name; `tied`: the matrix is that of the target embeddings."""
    logits = {"logits": Logits(name="logits")}
    return logits if tied else {"projection": keras.layers.Dense(vocabulary_size, name="projection"), **logits}


def project(layer: LayerByName, outputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the logits `[B, T, V]` of a decoder's outputs `[B, T, D]`; they carry the mask `[B, T]`."""
    embedding = layer("target_embedding")
    if isinstance(embedding, TiedEmbedding):
        projected = embedding(outputs, reverse=True)
    else:
        projected = layer("projection")(outputs)
    return layer("logits")(projected) if mask is None else layer("logits")(projected, mask=mask)


def self_attention(
    num_heads: int,
    num_kv_heads: int | None,
    score: DotProduct | None,
    mask: Pattern | None,
    position: HeadPosition | None,
) -> MultiHeadSelfAttention | None:
    """Returns a block's attention if `num_kv_heads` or `score` is given; None for the block's default."""
    if num_kv_heads is None and score is None:
        return None
    return MultiHeadSelfAttention(
        num_heads, num_kv_heads=num_kv_heads, mask=mask, position=position, score=score, name="attention"
    )


def check_left_out(recipe: Callable[..., keras.Model], slots: Sequence[str], given: Mapping[str, object]) -> None:
    """Raises a `ValueError` for arguments that would be ignored because the caller passes a block.

    Args:
        recipe: The recipe; arguments that equal its defaults count as left out.
        slots: Names of the arguments that are blocks.
        given: The values of the other arguments by name.
    """
    parameters, beside = inspect.signature(recipe).parameters, " and ".join(f"`{slot}`" for slot in slots)
    for name, value in given.items():
        if not alike(value, parameters[name].default):
            raise ValueError(
                f"`{name}` belongs to the block, and must not be combined with {beside}. "
                f"Received: {name}={short_repr(value)}."
            )


def num_positions(position: keras.layers.Layer) -> int | None:
    """Returns the number of positions of a position layer, None for no bound."""
    return position.max_length if isinstance(position, Learned) else None


def split_position(
    position: keras.layers.Layer | HeadPosition | None,
) -> tuple[keras.layers.Layer, HeadPosition | None]:
    """Returns the layer that adds positions to embeddings, and the position of the heads; only one has an effect."""
    if isinstance(position, HeadPosition):
        return NoPosition(), position
    position = Sinusoidal() if position is None else position
    if not isinstance(position, keras.layers.Layer):
        raise ValueError(
            "`position` must be a layer that adds positions to embeddings, or a `HeadPosition`. "
            f"Received: position={short_repr(position)}."
        )
    return position, None


def check_heads(size: int, num_heads: int) -> None:
    """Raises a `ValueError` unless the model size is a multiple of the number of heads."""
    check_positive("size", size)
    check_positive("num_heads", num_heads)
    if size % num_heads:
        raise ValueError(f"`size` must be a multiple of `num_heads`. Received: size={size}, num_heads={num_heads}.")
