"""The backend's own attention: SDPA under PyTorch, `jax.nn.dot_product_attention` under JAX."""

from keras import ops

from keras_attn.backend import fused, fused_is_linear, has_fused
from keras_attn.masks import Causal


def fused_supports(query, value, softcap, sinks, dropout):
    """Whether the backend has a kernel of its own that does what was asked, all of it."""
    plain = softcap is None and sinks is None and not dropout
    return has_fused and plain and query.shape[-1] == value.shape[-1]


def fused_memory_is_linear(query, key, mask, bias, grid, aligned):
    """Whether the backend's kernel needs memory linear in length for this call; arguments as `fused_attention`."""
    unmasked = mask is None and grid.query_present is None and grid.key_present is None
    masked = not unmasked and not is_plain_causal(query, key, mask, bias, aligned)
    return fused_is_linear(query, masked, bias is not None)


def is_plain_causal(query, key, mask, bias, aligned):
    """Whether `is_causal` says all of the mask."""
    return mask == Causal() and bias is None and aligned and query.shape[2] == key.shape[2]


def fused_attention(query, key, value, mask, bias, scale, grid, aligned):
    """Computes `softmax(scale * query @ key + bias) @ value` over the visible keys.

    Args and Returns as `keras_attn.kernels.attention`, but for `mask` and `bias`, which are
    objects or None; `grid` is the plane of all scores, and `aligned` says whether the last
    query stands at the last key and none is given an index of its own.
    """
    if is_plain_causal(query, key, mask, bias, aligned):
        return fused(query, key, value, None, None, scale, is_causal=True)
    visible = grid.visible(mask)
    added = None if bias is None else bias.cells(bias.tensor, grid)
    if visible is None:
        return fused(query, key, value, None, added, scale)
    # A row with nothing to see would be NaN, in its gradients too: it sees all, and is blanked.
    seen = ops.any(visible, axis=-1, keepdims=True)
    outputs = fused(query, key, value, ops.logical_or(visible, ops.logical_not(seen)), added, scale)
    return ops.where(seen, outputs, 0)
