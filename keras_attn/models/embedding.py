"""The ends of all recipes: ids to vectors at their positions, vectors to logits."""

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
"""Returns a layer by its name: of a dictionary while a recipe builds its model, of the model afterwards."""


@register
class Logits(keras.layers.Layer):
    """Logits in float32 whatever the policy, with the padding mask of the ids that they belong to.

    Keras' losses and metrics read this mask, so that they do not count padding.
    """

    def __init__(self, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.supports_masking = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        return inputs

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return tuple(inputs_shape)


@register
class TiedEmbedding(keras.layers.ReversibleEmbedding):
    """Embeddings that are also the matrix of the logits. Keras warns when its own layer gets outputs with a mask."""

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
    """Returns the layers that embed the ids of one side, by name; `added` is cloned; `tied` ones make logits too."""
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
    """Embeds ids `[B, T]` of which the first of each row stands at `index`, `[]` or `[B]`; nothing is dropped."""
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
    """Returns the layers that make logits, by name; `tied` ones multiply by the embeddings of the target."""
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
    """Returns the attention of a block with fewer heads of keys or a score of its own; None for the block's default."""
    if num_kv_heads is None and score is None:
        return None
    return MultiHeadSelfAttention(
        num_heads, num_kv_heads=num_kv_heads, mask=mask, position=position, score=score, name="attention"
    )


def check_left_out(recipe: Callable[..., keras.Model], slots: Sequence[str], given: Mapping[str, object]) -> None:
    """Raises a `ValueError` for an argument that belongs to a block which is given: it would be ignored.

    Args:
        recipe: The recipe, whose defaults count as left out.
        slots: Names of the arguments that hold blocks.
        given: The values of the others by name.
    """
    parameters, beside = inspect.signature(recipe).parameters, " and ".join(f"`{slot}`" for slot in slots)
    for name, value in given.items():
        if not alike(value, parameters[name].default):
            raise ValueError(
                f"`{name}` belongs to the block, and must be left out beside {beside}. "
                f"Received: {name}={short_repr(value)}."
            )


def num_positions(position: keras.layers.Layer) -> int | None:
    """Returns how many positions the layer of a side's positions has, None for no bound."""
    return position.max_length if isinstance(position, Learned) else None


def split_position(
    position: keras.layers.Layer | HeadPosition | None,
) -> tuple[keras.layers.Layer, HeadPosition | None]:
    """Returns the layer that adds positions to embeddings, and what acts on the heads, of which one does nothing."""
    if isinstance(position, HeadPosition):
        return NoPosition(), position
    position = Sinusoidal() if position is None else position
    if not isinstance(position, keras.layers.Layer):
        raise ValueError(
            "`position` must be a layer that adds positions to embeddings, or fill an attention's slot. "
            f"Received: position={short_repr(position)}."
        )
    return position, None


def check_heads(size: int, num_heads: int) -> None:
    """Raises a `ValueError` unless the heads share the model size evenly."""
    check_positive("size", size)
    check_positive("num_heads", num_heads)
    if size % num_heads:
        raise ValueError(f"`size` must be a multiple of `num_heads`. Received: size={size}, num_heads={num_heads}.")
