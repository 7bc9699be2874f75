"""Dense attention: builds all scores `[B, H, T, S]`. The definition that other kernels must meet."""

import keras
from keras import ops

from keras_attn.backend.precision import at_least_float32
from keras_attn.kernels.dropout import kept
from keras_attn.kernels.softmax import masked_softmax, softmax_of_visible


def dense_attention(query, key, value, visible, bias, sinks, scale, softcap, dropout, seed, return_scores):
    """Computes `softmax(scale * query @ key + bias) @ value` over the visible keys.

    Args and Returns as `keras_attn.kernels.attention`, but for `visible`, boolean, and `bias`,
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
    dropped = weights * kept(weights, dropout, seed) if dropout else weights
    outputs = ops.einsum("bhts,bhsk->bhtk", _fold_groups(dropped, groups), value)
    outputs = _unfold_groups(outputs, groups, target_length)  # [B, H, T, K]
    if visible is not None:  # rows are blanked here, where they are shorter than their scores
        outputs = ops.where(ops.any(visible, axis=-1, keepdims=True), outputs, 0)
    if not return_scores:
        return outputs
    return outputs, weights if visible is None else ops.where(visible, weights, 0)


def _softmax_with_sinks(scores, visible, sinks):
    """Softmax over the visible keys and each head's sink, whose own weight is dropped."""
    shape = (*ops.shape(scores)[:-1], 1)
    column = ops.broadcast_to(ops.reshape(ops.cast(sinks, scores.dtype), (1, -1, 1, 1)), shape)
    if visible is not None:
        visible = ops.broadcast_to(visible, ops.shape(scores))
        visible = ops.concatenate([visible, ops.ones(shape, "bool")], axis=-1)
    return masked_softmax(ops.concatenate([scores, column], axis=-1), visible)[..., :-1]


def _fold_groups(tensor, groups):
    """`[B, H, T, X]` -> `[B, H_kv, G * T, X]`: the G query heads that share a key head side by side."""
    if groups == 1:
        return tensor
    batch, heads, length, size = ops.shape(tensor)
    return ops.reshape(tensor, (batch, heads // groups, groups * length, size))


def _unfold_groups(tensor, groups, length):
    """Undoes `_fold_groups`; `length` is T where it is static."""
    if groups == 1:
        return tensor
    batch, heads, folded, size = ops.shape(tensor)
    return ops.reshape(tensor, (batch, heads * groups, folded // groups if length is None else length, size))


def score_operands(query, key):
    """Returns queries and keys in a dtype whose range holds their products: float16's does not."""
    if keras.backend.standardize_dtype(query.dtype) == "float16":
        return ops.cast(query, "float32"), ops.cast(key, "float32")
    return query, key
