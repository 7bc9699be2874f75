"""What the Transformer recipes do with their arguments: the blocks' attention, and checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

import keras

from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.base.checks import check_positive
from keras_attn.base.slot import alike
from keras_attn.base.tensors import short_repr
from keras_attn.masks import Pattern
from keras_attn.positions import HeadPosition


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


def check_heads(size: int, num_heads: int) -> None:
    """Raises a `ValueError` unless the model size is a multiple of the number of heads."""
    check_positive("size", size)
    check_positive("num_heads", num_heads)
    if size % num_heads:
        raise ValueError(f"`size` must be a multiple of `num_heads`. Received: size={size}, num_heads={num_heads}.")


def num_blocks(block: keras.layers.Layer | list[keras.layers.Layer] | None, num_layers: int) -> int:
    """Returns the number of layers of a stack: that of the blocks in a list, otherwise `num_layers`."""
    return len(block) if isinstance(block, (list, tuple)) else num_layers
