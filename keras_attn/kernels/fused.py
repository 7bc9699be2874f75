"""The backend's own attention: SDPA under PyTorch, `jax.nn.dot_product_attention` under JAX."""

from __future__ import annotations

from keras import ops

from keras_attn.backend import fused, fused_is_linear, has_fused
from keras_attn.base.types import Tensor
from keras_attn.kernels.biases import Bias
from keras_attn.masks import Causal, Grid, Mask


def fused_supports(query: Tensor, value: Tensor, softcap: float | None, sinks: Tensor | None, dropout: float) -> bool:
    """Returns whether the backend has its own kernel, and this kernel supports all the options."""
    plain = softcap is None and sinks is None and not dropout
    return has_fused and plain and query.shape[-1] == value.shape[-1]


def fused_memory_is_linear(
    query: Tensor, key: Tensor, mask: Mask | None, bias: Bias | None, grid: Grid, aligned: bool
) -> bool:
    """Returns whether the backend's kernel needs memory linear in length; arguments as `fused_attention`."""
    unmasked = mask is None and grid.query_present is None and grid.key_present is None
    masked = not unmasked and not is_plain_causal(query, key, mask, bias, aligned)
    return fused_is_linear(query, masked, bias is not None)


def is_plain_causal(query: Tensor, key: Tensor, mask: Mask | None, bias: Bias | None, aligned: bool) -> bool:
    """Returns whether the backend's own option `is_causal` expresses mask and bias."""
    return mask == Causal() and bias is None and aligned and query.shape[2] == key.shape[2]


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask | None,
    bias: Bias | None,
    scale: float | Tensor,
    grid: Grid,
    aligned: bool,
) -> Tensor:
    """Computes `softmax(scale * query @ key + bias) @ value` over the visible keys.

    Args and Returns as `keras_attn.kernels.attention`, except that `mask` and `bias` are
    objects or None. `grid` is the grid of all scores. `aligned` is True if the last query has
    the index of the last key and no indices were passed.
    """
    if is_plain_causal(query, key, mask, bias, aligned):
        return fused(query, key, value, None, None, scale, is_causal=True)
    visible = grid.visible(mask)
    added = None if bias is None else bias.cells(bias.tensor, grid)
    if visible is None:
        return fused(query, key, value, None, added, scale)
    # A query that sees no key would yield NaN, also in gradients: it sees all keys, and its output is set to 0.
    seen = ops.any(visible, axis=-1, keepdims=True)
    outputs = fused(query, key, value, ops.logical_or(visible, ops.logical_not(seen)), added, scale)
    return ops.where(seen, outputs, 0)
