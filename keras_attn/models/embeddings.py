"""From ids to vectors with positions, for all Transformer recipes."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.base.checks import check_number, check_positive, check_slot
from keras_attn.base.cloning import clone
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import shape_of, short_repr, to_tensor
from keras_attn.base.types import Tensor
from keras_attn.layers.norms import Norm
from keras_attn.models.layers import LayerByName, Layers, TiedEmbedding
from keras_attn.positions import HeadPosition, Learned, NoPosition, Sinusoidal


@register
class Embeddings(Slot):
    """How a recipe embeds ids: `x_p = Dropout(Norm(scale * E_id(p) + P_p))`.

    Args:
        scale: Factor of the embeddings; None for `sqrt(D)` with model size D (Vaswani et al. 2017, section 3.4).
        norm: Norm of the sums of embeddings and positions, or None for none.
        shared: Whether source and target have one matrix: the layer `target_embedding`.

    Raises:
        ValueError: If `scale` is not a positive number, or `norm` is not a norm.

    Example:
    >>> from keras_attn import LayerNorm, models
    >>> embeddings = models.Embeddings(scale=1.0, norm=LayerNorm(), shared=True)
    >>> model = models.Transformer(50, 50, 1, 16, 2, 32, embeddings=embeddings)
    """

    def __init__(self, scale: float | None = None, norm: Norm | None = None, shared: bool = False) -> None:
        check_number("scale", scale, optional=True, must="be a positive number or None", above=0)
        if not isinstance(shared, bool):
            raise ValueError(f"`shared` must be True or False. Received: shared={short_repr(shared)}.")
        self.scale = scale
        self.norm = check_slot("norm", norm, Norm)
        self.shared = shared

    def layer_name(self, side: str) -> str:
        """Returns the name of the layer that has the matrix of a side."""
        return "target_embedding" if self.shared else f"{side}_embedding"

    def layers(
        self,
        side: str,
        vocabulary_size: int,
        size: int,
        dropout: float,
        added: keras.layers.Layer,
        tied: bool = False,
    ) -> Layers:
        """Returns the layers of one side by name.

        Args:
            side: `"source"` or `"target"`.
            vocabulary_size: Number of ids V.
            size: Model size D.
            dropout: Dropout rate in training.
            added: The layer that adds positions, which is cloned.
            tied: Whether the matrix also computes logits.
        """
        check_positive(f"{side}_vocabulary_size", vocabulary_size)
        initializer = keras.initializers.RandomNormal(stddev=size**-0.5)
        name, kind = self.layer_name(side), TiedEmbedding if tied else keras.layers.Embedding
        made: Layers = {}
        if name.startswith(side):
            made[name] = kind(vocabulary_size, size, embeddings_initializer=initializer, name=name)
        made[f"{side}_position"] = clone(added, f"{side}_position")
        if self.norm is not None:
            made[f"{side}_norm"] = self.norm.make(f"{side}_norm", keras.config.dtype_policy())
        made[f"{side}_dropout"] = keras.layers.Dropout(dropout, name=f"{side}_dropout")
        return made

    def embed(self, layer: LayerByName, side: str, ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """Embeds ids `[B, T]` of one side at their positions `[B, T]`, by default 0 ... T-1."""
        x = self.place(layer, side, self.look_up(layer, side, ids), positions)
        return layer(f"{side}_dropout")(x)

    def embed_chunk(
        self, layer: LayerByName, side: str, tokens: Tensor, index: int | Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        """Embeds ids `[B, T]`, where the first of each row has position `index`, `[]` or `[B]`; without dropout."""
        position = layer(f"{side}_position")
        steps = ops.arange(shape_of(tokens)[1], dtype="int32")[None]
        positions = ops.reshape(to_tensor("index", index, "int32"), (-1, 1)) + steps  # [B or 1, T]
        if lengths is not None:
            positions = ops.where(steps < to_tensor("lengths", lengths, "int32")[:, None], positions, 0)
        if isinstance(position, Learned):
            position.check_positions("index", positions)
        positions = ops.broadcast_to(positions, shape_of(tokens))
        return self.place(layer, side, self.look_up(layer, side, tokens), positions)

    def look_up(self, layer: LayerByName, side: str, ids: Tensor) -> Tensor:
        """Returns the scaled embeddings `[B, T, D]` of ids `[B, T]`, without positions."""
        embedding = layer(self.layer_name(side))
        scale = embedding.output_dim**0.5 if self.scale is None else self.scale
        return embedding(ids) if scale == 1 else embedding(ids) * scale

    def place(self, layer: LayerByName, side: str, x: Tensor, positions: Tensor | None) -> Tensor:
        """Adds positions to embeddings `[B, T, D]`, and normalises the sums."""
        x = layer(f"{side}_position")(x, positions=positions)
        return x if self.norm is None else layer(f"{side}_norm")(x)


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
