"""The scores of every attention layer in a model."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.base.recording import recording
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import ArrayLike, Tensor


def attention_maps(model: keras.layers.Layer, inputs: ArrayLike, **named: Any) -> dict[str, Tensor]:
    """Runs a model once and returns the scores of every attention layer in it.

    It finds `MultiHeadSelfAttention`, `EncoderDecoderAttention` and the recurrent attention layers in
    functional models, in blocks and stacks, and in custom layers. The call runs eagerly, and every
    attention layer computes its scores in it.

    Args:
        model: A Keras model or layer.
        inputs: Inputs to call the model with.
        **named: Further arguments of the call.

    Returns:
        A dictionary from the path of each attention layer to its scores, in the order in which the layers
        ran: `[B, H, T, S]`, or `[B, T, S]` for a recurrent attention layer. If a layer runs more than once,
        a number is added to its path from the second time on: `path (2)`.

    Raises:
        ValueError: If `model` is not a Keras layer, or contains no attention layer of this library.

    Example:
    >>> import numpy as np
    >>> from keras_attn import attention_maps, models
    >>> model = models.Transformer(50, 60, num_layers=1, size=16, num_heads=2, hidden_size=32)
    >>> maps = attention_maps(model, {"source": np.array([[5, 6, 2]]), "target": np.array([[1, 7]])})
    >>> for path, scores in maps.items():
    ...     print(path, tuple(scores.shape))
    encoder/block_0/attention (1, 2, 3, 3)
    decoder/block_0/attention (1, 2, 2, 2)
    decoder/block_0/memory_attention (1, 2, 2, 3)
    """
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"`model` must be a Keras model or layer. Received: model={short_repr(model)}.")
    with recording() as scores:
        model(inputs, **named)
    if not scores:
        raise ValueError(f"`model` must hold an attention layer of keras_attn. Received: model={short_repr(model)}.")
    return dict(scores)
