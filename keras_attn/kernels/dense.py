"""Dense attention: builds all scores `[B, H, T, S]`. The other kernels must give the same results."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.backend.precision import at_least_float32
from keras_attn.base.types import Tensor
from keras_attn.kernels.dropout import dropout_factors
from keras_attn.kernels.softmax import masked_softmax, softmax_of_visible


def dense_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    bias: Tensor | None,
    sinks: Tensor | None,
    scale: float | Tensor,
    softcap: float | None,
    dropout: float,
    seed: Tensor | None,
    return_scores: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """Computes `softmax(scale * query @ key + bias) @ value` over the visible keys.

    Args and Returns as `keras_attn.kernels.attention`, except for `visible`, boolean, and `bias`,
    a tensor: both broadcast to `[B, H, T, S]`, or are None.
    """
    _, num_heads, target_length, _ = query.shape
    groups = num_heads // key.shape[1]
    query = _fold_groups(query * ops.cast(scale, query.dtype), groups)  # [B, H_kv, G * T, K]
    scores = ops.einsum("bhtk,bhsk->bhts", *score_operands(query, key))
    scores = ops.cast(_unfold_groups(scores, groups, target_length), at_least_float32(scores.dtype))  # [B, H, T, S]
    if softcap is not None:
        scores = softcap * ops.tanh(scores / softcap)
    if bias is not None:
        scores = scores + ops.cast(bias, scores.dtype)
    weights = softmax_of_visible(scores, visible) if sinks is None else _softmax_with_sinks(scores, visible, sinks)
    weights = ops.cast(weights, value.dtype)
    dropped = weights * dropout_factors(weights, dropout, seed) if dropout else weights
    outputs = ops.einsum("bhts,bhsk->bhtk", _fold_groups(dropped, groups), value)
    outputs = _unfold_groups(outputs, groups, target_length)  # [B, H, T, K]
    if visible is not None:  # set empty rows to 0 here: outputs are smaller than scores
        outputs = ops.where(ops.any(visible, axis=-1, keepdims=True), outputs, 0)
    if not return_scores:
        return outputs
    return outputs, weights if visible is None else ops.where(visible, weights, 0)


def _softmax_with_sinks(scores: Tensor, visible: Tensor | None, sinks: Tensor) -> Tensor:
    """Computes the softmax over the visible keys and each head's sink; returns the weights of the keys."""
    shape = (*ops.shape(scores)[:-1], 1)
    column = ops.broadcast_to(ops.reshape(ops.cast(sinks, scores.dtype), (1, -1, 1, 1)), shape)
    if visible is not None:
        visible = ops.broadcast_to(visible, ops.shape(scores))
        visible = ops.concatenate([visible, ops.ones(shape, "bool")], axis=-1)
    return masked_softmax(ops.concatenate([scores, column], axis=-1), visible)[..., :-1]


def _fold_groups(tensor: Tensor, groups: int) -> Tensor:
    """`[B, H, T, X]` -> `[B, H_kv, G * T, X]`: concatenates the G query heads that share a key head."""
    if groups == 1:
        return tensor
    batch, heads, length, size = ops.shape(tensor)
    return ops.reshape(tensor, (batch, heads // groups, groups * length, size))


def _unfold_groups(tensor: Tensor, groups: int, length: int | None) -> Tensor:
    """`[B, H_kv, G * T, X]` -> `[B, H, T, X]`; `length` is T if it is static, else None."""
    if groups == 1:
        return tensor
    batch, heads, folded, size = ops.shape(tensor)
    return ops.reshape(tensor, (batch, heads * groups, folded // groups if length is None else length, size))


def score_operands(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Returns queries and keys in a dtype that can represent their products; float16 is cast to float32."""
    if keras.backend.standardize_dtype(query.dtype) == "float16":
        return ops.cast(query, "float32"), ops.cast(key, "float32")
    return query, key
