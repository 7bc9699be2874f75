"""The entry point of multi-head attention: it checks the arguments, chooses a kernel and calls it."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn import masks
from keras_attn.backend import random_seed, value_of
from keras_attn.base.checks import check_attention_mask, check_axes, check_broadcast
from keras_attn.base.tensors import shape_of, short_repr, to_tensor
from keras_attn.base.types import ArrayLike, Tensor
from keras_attn.kernels.biases import Bias, TensorBias
from keras_attn.kernels.blockwise import Blockwise, blockwise_attention
from keras_attn.kernels.choice import choose_kernel
from keras_attn.kernels.dense import dense_attention
from keras_attn.kernels.fused import fused_attention, fused_memory_is_linear, fused_supports
from keras_attn.kernels.indices import check_indices, whole_grid
from keras_attn.kernels.tiling import Tiling


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: masks.Mask | ArrayLike | None = None,
    bias: Bias | ArrayLike | None = None,
    scale: float | Tensor | None = None,
    softcap: float | None = None,
    sinks: ArrayLike | None = None,
    dropout: float = 0.0,
    seed: int | keras.random.SeedGenerator | None = None,
    query_offset: ArrayLike | None = None,
    key_length: ArrayLike | None = None,
    query_index: ArrayLike | None = None,
    key_index: ArrayLike | None = None,
    return_scores: bool = False,
    kernel: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Computes scaled dot-product attention over heads.

    `scores = softmax_s(scale * query . key + bias)` over the keys that `mask` shows,
    `output = scores . value`. The outputs, scores and gradients of a query that sees no key are
    zero. The softmax is computed in float32 or wider.

    Args:
        query: `[B, H, T, K]`.
        key: `[B, H_kv, S, K]`; H must be a multiple of H_kv, and query head h reads key head
            `h // (H / H_kv)` (grouped-query attention, arXiv:2305.13245).
        value: `[B, H_kv, S, V]`.
        mask: A mask object (`keras_attn.masks`), or a boolean tensor, True where a query may
            attend, that broadcasts to `[B, H, T, S]` (`[B, T, S]` is read as `[B, 1, T, S]`).
        bias: Added to the scaled (and capped) scores: a tensor that broadcasts to `[B, H, T, S]`,
            where minus infinity hides a key, or a `Bias` that is computed tile by tile.
        scale: Factor of the scores; `K ** -0.5` by default.
        softcap: Caps the scaled scores smoothly, `softcap * tanh(scores / softcap)`.
        sinks: Logits `[H]` of an additional key of each head that every query sees and whose value
            is zero (arXiv:2309.17453): scores then sum to less than one.
        dropout: Rate at which scores are dropped; the caller passes 0 outside training.
        seed: Integer or `keras.random.SeedGenerator` for the dropout; None draws a random one.
        query_offset: Index of the first query among the keys, integer scalar or `[B]`. By
            default the last query has the index of the last key (bottom-right alignment).
        key_length: Number of keys in use in each row, `[B]`; later ones are hidden.
        query_index: Index of each query, integers `[B or 1, T]`, instead of `query_offset`. A negative
            index means that there is no query: its outputs, scores and gradients are zero.
        key_index: Index of each key, integers `[B or 1, S]`, in any order, or `[B or 1, 1 or T, S]` for the
            keys of each query; by default 0 ... S-1. A negative index means that there is no key: it is hidden
            from all queries. Cannot be combined with `key_length`.
        return_scores: Whether to return the scores too.
        kernel: `"dense"` builds the scores. `"blockwise"` does not: its memory is linear in T and S.
            `"fused"` is the backend's own kernel (PyTorch, JAX) if it supports all options of the call,
            otherwise `"auto"`. `"auto"` is the kernel that was measured to be faster on a CPU, and a cautious
            default on other devices, which were not measured: the fused kernel, or blockwise from 2,048 x 2,048
            scores on. It is the dense kernel if a length is not static, if the scores are returned, or
            while the model is exported to a format that supports no other kernel.

    Indices apply to patterns, and to distance biases without positions. They do not reorder tensors, such as
    padding masks or a bias. If indices are passed, `"auto"` chooses as if the mask hid no far keys, unless
    `key_index` is the same tensor object as `query_index`: then a sequence attends to itself, and its indices
    should increase. `"blockwise"` always skips hidden tiles.

    Returns:
        `[B, H, T, V]`; with `return_scores` a tuple of it and the scores `[B, H, T, S]` (before dropout).

    Raises:
        ValueError: For shapes that do not match, an index together with the argument that it replaces, an
            unknown kernel, or `return_scores` with a kernel that does not build the scores.

    Example:
    >>> import numpy as np
    >>> from keras_attn import kernels, masks
    >>> heads = np.ones((2, 4, 7, 16), "float32")
    >>> tuple(kernels.attention(heads, heads, heads, mask=masks.Causal()).shape)
    (2, 4, 7, 16)

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762.
    """
    query, key, value = (ops.convert_to_tensor(tensor) for tensor in (query, key, value))
    sizes = _check_shapes(query, key, value)
    mask, bias = _mask_and_bias(mask, bias, query, key, sizes)
    aligned = query_index is None and key_index is None
    rising = aligned or query_index is key_index
    query_offset, key_length = _offset_and_length(query_offset, key_length, query_index, key_index, query)
    query_index, key_index = check_indices(query, key, query_index, key_index)
    grid = whole_grid(query, key, query_offset, key_length, query_index, key_index)
    if key_length is not None:
        mask = masks.combine(mask, masks.KeyLength(key_length))
    if sinks is not None:
        sinks = value_of(ops.convert_to_tensor(sinks))
        check_axes({"sinks": "H"}, {"sinks": sinks}, {"H": query.shape[1]})
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    supported = fused_supports(query, value, softcap, sinks, dropout)
    aligned = aligned and query_offset is None
    linear = supported and fused_memory_is_linear(query, key, mask, bias, grid, aligned)
    chosen = choose_kernel(kernel, query, key, mask, return_scores, supported, linear, rising)
    if chosen == "fused":
        return fused_attention(query, key, value, mask, bias, scale, grid, aligned)
    seed = draw_seed(seed) if dropout else None
    if chosen == "blockwise":
        tiling = Tiling.of(mask, grid, query, key)
        options = Blockwise(tiling, query.shape[1], bias=bias, softcap=softcap, dropout=dropout, seed=seed)
        return blockwise_attention(query, key, value, scale, options, sinks)
    visible = grid.visible(mask)
    added = None if bias is None else bias.cells(bias.tensor, grid)
    return dense_attention(query, key, value, visible, added, sinks, scale, softcap, dropout, seed, return_scores)


def _mask_and_bias(
    mask: masks.Mask | ArrayLike | None,
    bias: Bias | ArrayLike | None,
    query: Tensor,
    key: Tensor,
    sizes: dict[str, int],
) -> tuple[masks.Mask | None, Bias | None]:
    """Returns mask and bias as objects, made from tensors if necessary; None stays None."""
    if mask is not None and not isinstance(mask, masks.Mask):
        mask = to_tensor("mask", mask)
        check_attention_mask("mask", mask, "BHTS", sizes)
        mask = masks.Explicit(mask)
    if bias is not None and not isinstance(bias, Bias):
        bias = value_of(ops.convert_to_tensor(bias))
        check_broadcast("bias", bias, "BHTS", sizes)
        bias = TensorBias(_four_axes(bias, query, key))
        mask = masks.combine(mask, bias.mask())
    return mask, bias


def _offset_and_length(
    query_offset: ArrayLike | None,
    key_length: ArrayLike | None,
    query_index: ArrayLike | None,
    key_index: ArrayLike | None,
    query: Tensor,
) -> tuple[Tensor | None, Tensor | None]:
    """Returns `query_offset` and `key_length` as int32; None stays None."""
    pairs = (
        ("query_offset", query_offset, "query_index", query_index),
        ("key_length", key_length, "key_index", key_index),
    )
    for short, value, name, index in pairs:
        if value is not None and index is not None:
            raise ValueError(
                f"`{short}` must be None where `{name}` is given, which replaces it. "
                f"Received: {short}={short_repr(value)}, {name}={short_repr(index)}."
            )
    sizes = {"B": query.shape[0]}
    if key_length is not None:
        key_length = to_tensor("key_length", key_length, "int32")
        check_axes({"key_length": "B"}, {"key_length": key_length}, sizes)
    if query_offset is not None:
        query_offset = to_tensor("query_offset", query_offset, "int32")
        if len(query_offset.shape):
            check_axes({"query_offset": "B"}, {"query_offset": query_offset}, sizes)
    return query_offset, key_length


def _check_shapes(query: Tensor, key: Tensor, value: Tensor) -> dict[str, int]:
    sizes = check_axes({"query": "BHTK", "key": "BGSK", "value": "BGSV"}, {"query": query, "key": key, "value": value})
    heads, kv_heads = sizes.get("H"), sizes.get("G")
    if heads is None or kv_heads is None or heads % kv_heads:
        raise ValueError(
            "The heads of `query` must be static and a multiple of those of `key`. "
            f"Received: query.shape={tuple(query.shape)}, key.shape={tuple(key.shape)}."
        )
    return sizes


def _four_axes(bias: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Returns the bias with four axes; axes that are not static are broadcast to their full size."""
    bias = ops.reshape(bias, (1,) * (4 - len(bias.shape)) + tuple(shape_of(bias)))
    full = (*shape_of(query)[:3], shape_of(key)[2])
    sizes = [length if size is None else size for size, length in zip(bias.shape, full)]
    return ops.broadcast_to(bias, sizes) if None in tuple(bias.shape) else bias


def draw_seed(seed: int | keras.random.SeedGenerator | None) -> Tensor:
    """Returns integers `[2]`: from an integer, the next of a `SeedGenerator`, or random ones for None."""
    if isinstance(seed, keras.random.SeedGenerator):
        return seed.next()
    if seed is None:
        return random_seed()
    return ops.convert_to_tensor([seed, 0], dtype="uint32")
