"""The backend's own attention: SDPA under PyTorch, `jax.nn.dot_product_attention` under JAX.

Such a kernel skips what its own options hide, but with a mask it is slow, or builds the scores. Therefore a mask is
passed as options where they express it exactly (`FusedOptions`). Padding becomes lengths: positions may be anywhere
in a row, and the backend moves those that are not padding to its front.
"""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from keras_attn.backend import fused, fused_is_linear, fused_skips, has_fused
from keras_attn.base.checks import as_boolean
from keras_attn.base.types import Tensor
from keras_attn.kernels.biases import Bias
from keras_attn.masks import And, Causal, Grid, Mask, Padding, Window


class FusedOptions(NamedTuple):
    """What the backend's kernel hides by its own options, instead of a mask.

    Attributes:
        is_causal: Whether query i sees the keys up to i only, for T = S.
        window: How many of these keys it sees, the last ones; None for all.
        query_mask, key_mask: Booleans `[B, T]` and `[B, S]`, False at padding, or None.
    """

    is_causal: bool = False
    window: int | None = None
    query_mask: Tensor | None = None
    key_mask: Tensor | None = None


def fused_supports(query: Tensor, value: Tensor, softcap: float | None, sinks: Tensor | None, dropout: float) -> bool:
    """Returns whether the backend has its own kernel, and this kernel supports all the options."""
    plain = softcap is None and sinks is None and not dropout
    return has_fused and plain and query.shape[-1] == value.shape[-1]


def fused_memory_is_linear(
    query: Tensor, key: Tensor, mask: Mask | None, bias: Bias | None, grid: Grid, aligned: bool
) -> bool:
    """Returns whether the backend's kernel needs memory linear in length; arguments as `fused_attention`."""
    unmasked = mask is None and grid.query_present is None and grid.key_present is None
    masked = not unmasked and fused_options(query, key, mask, bias, aligned) is None
    return fused_is_linear(query, masked, bias is not None)


def fused_options(
    query: Tensor, key: Tensor, mask: Mask | None, bias: Bias | None, aligned: bool
) -> FusedOptions | None:
    """Returns the options of the backend's kernel that hide exactly what `mask` hides, or None.

    A window without a causal mask, and a window together with padding, have none: lengths do not say which of two
    positions is how far from the other. Causal and padding have some if queries and keys are the same positions,
    of which then the order remains.
    """
    parts = [] if mask is None else conjuncts(mask)
    patterns = [part for part in parts if isinstance(part, (Causal, Window))]
    paddings = [part for part in parts if isinstance(part, Padding)]
    if not parts or bias is not None or not aligned or len(patterns) + len(paddings) < len(parts) or len(paddings) > 1:
        return None
    is_causal = any(pattern.ahead == 0 for pattern in patterns)
    window = min((pattern.left for pattern in patterns if isinstance(pattern, Window)), default=None)
    if patterns and not (is_causal and query.shape[2] == key.shape[2]):
        return None
    if window is not None and window >= key.shape[2]:
        window = None
    if (window or paddings) and not fused_skips(query):
        return None
    if not paddings:
        return FusedOptions(is_causal, window)
    (padding,) = paddings
    if window or (is_causal and padding.query_mask is not padding.key_mask):
        return None
    query_mask, key_mask = (
        None if padded is None else as_boolean(name, padded)
        for name, padded in (("query_mask", padding.query_mask), ("key_mask", padding.key_mask))
    )
    return FusedOptions(is_causal, None, query_mask, key_mask)


def conjuncts(mask: Mask) -> list[Mask]:
    """Returns the masks that `mask` combines by `&`, or itself if it is none of that kind."""
    return [*conjuncts(mask.first), *conjuncts(mask.second)] if isinstance(mask, And) else [mask]


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
    options = fused_options(query, key, mask, bias, aligned)
    if options is not None:
        outputs = fused(query, key, value, None, None, scale, *options)
        return hide_empty_rows(outputs, options)
    visible = grid.visible(mask)
    added = None if bias is None else bias.cells(bias.tensor, grid)
    if visible is None:
        return fused(query, key, value, None, added, scale)
    # A query that sees no key would yield NaN, also in gradients: it sees all keys, and its output is set to 0.
    seen = ops.any(visible, axis=-1, keepdims=True)
    outputs = fused(query, key, value, ops.logical_or(visible, ops.logical_not(seen)), added, scale)
    return ops.where(seen, outputs, 0)


def hide_empty_rows(outputs: Tensor, options: FusedOptions) -> Tensor:
    """Returns `outputs` `[B, H, T, K]` with zeros at padded queries, and in rows whose keys are all padding."""
    query_mask, key_mask = options.query_mask, options.key_mask
    if query_mask is not None:
        outputs = ops.where(ops.expand_dims(query_mask, (1, 3)), outputs, 0)
    if key_mask is not None:
        seen = ops.expand_dims(ops.any(key_mask, axis=-1), (1, 2, 3))
        outputs = ops.where(seen, outputs, 0)
    return outputs
