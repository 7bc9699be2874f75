"""What the recipes share on the way in and out: ids to vectors at their positions, vectors to logits.

`layer` is a function that returns a layer by its name: of a dictionary while a recipe builds
its model, of the model afterwards.
"""

import keras
from keras import ops

from keras_attn.base.checks import check_positive
from keras_attn.base.cloning import clone
from keras_attn.base.tensors import short_repr, to_tensor
from keras_attn.positions import HeadPosition, Learned, NoPosition, Sinusoidal


def embedding_layers(side, vocabulary_size, size, dropout, added):
    """Returns the layers that embed the ids of one side, by name; `added` is cloned."""
    check_positive(f"{side}_vocabulary_size", vocabulary_size)
    initializer = keras.initializers.RandomNormal(stddev=size**-0.5)
    name = f"{side}_embedding"
    return {
        name: keras.layers.Embedding(vocabulary_size, size, embeddings_initializer=initializer, name=name),
        f"{side}_position": clone(added, f"{side}_position"),
        f"{side}_dropout": keras.layers.Dropout(dropout, name=f"{side}_dropout"),
    }


def embed(layer, side, ids, positions=None):
    """Embeds ids `[B, T]` of one side at their positions `[B, T]`, by default 0 ... T-1."""
    embedding = layer(f"{side}_embedding")
    embedded = embedding(ids) * embedding.output_dim**0.5  # [B, T, D]
    return layer(f"{side}_dropout")(layer(f"{side}_position")(embedded, positions=positions))


def embed_chunk(layer, side, tokens, index, lengths=None):
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


def logit_layers(vocabulary_size):
    """Returns the layers that make logits, in float32 whatever the policy, by name."""
    return {
        "projection": keras.layers.Dense(vocabulary_size, name="projection"),
        "logits": keras.layers.Activation("linear", dtype="float32", name="logits"),
    }


def project(layer, outputs):
    """Returns the logits `[B, T, V]` of a decoder's outputs `[B, T, D]`."""
    return layer("logits")(layer("projection")(outputs))


def num_positions(position):
    """Returns how many positions the layer of a side's positions has, None for no bound."""
    return position.max_length if isinstance(position, Learned) else None


def split_position(position):
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


def check_heads(size, num_heads):
    """Raises a `ValueError` unless the heads share the model size evenly."""
    check_positive("size", size)
    check_positive("num_heads", num_heads)
    if size % num_heads:
        raise ValueError(f"`size` must be a multiple of `num_heads`. Received: size={size}, num_heads={num_heads}.")
