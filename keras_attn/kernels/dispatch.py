"""The single door to multi-head arithmetic, and the choice of a kernel behind it."""

from keras import ops

from keras_attn import masks
from keras_attn.checks import check_axes, check_broadcast
from keras_attn.kernels.dense import dense_attention

KERNELS = ("auto", "dense")


def attention(
    query,
    key,
    value,
    mask=None,
    bias=None,
    scale=None,
    softcap=None,
    dropout=0.0,
    seed=None,
    query_offset=None,
    key_length=None,
    return_scores=False,
    kernel="auto",
):
    """Scaled dot-product attention over heads.

    `scores = softmax_s(scale * query . key + bias)` over the keys that `mask` lets through,
    `output = scores . value`. A query with nothing to attend to yields zeros, and so do its
    scores and gradients. Softmax in float32 whatever the dtype.

    Args:
        query: `[B, H, T, K]`.
        key: `[B, H_kv, S, K]`; H must be a multiple of H_kv, and query head h reads key head
            `h // (H / H_kv)` (grouped-query attention, arXiv:2305.13245).
        value: `[B, H_kv, S, V]`.
        mask: A mask object (`keras_attn.masks`), or a boolean tensor, True where a query may
            attend, that broadcasts to `[B, H, T, S]` (`[B, T, S]` gets its head axis).
        bias: Added to the scaled scores, broadcasts to `[B, H, T, S]`; minus infinity hides.
        scale: Factor of the scores; `K ** -0.5` by default.
        softcap: Caps the scaled scores smoothly, `softcap * tanh(scores / softcap)`.
        dropout: Rate at which scores are dropped; the caller passes 0 outside training.
        seed: Integer or `keras.random.SeedGenerator` for the dropout.
        query_offset: Index of the first query among the keys, integer scalar or `[B]`. By
            default the last query stands at the last key (bottom-right alignment).
        key_length: Number of keys in use of each row, `[B]`; later ones are hidden.
        return_scores: Whether to return the scores too.
        kernel: `"auto"` or `"dense"`.

    Returns:
        `[B, H, T, V]`, or that and the scores `[B, H, T, S]` (before dropout).

    Raises:
        ValueError: For shapes that do not fit, or an unknown kernel.

    Example:
    >>> import numpy as np
    >>> from keras_attn import kernels, masks
    >>> heads = np.ones((2, 4, 7, 16), "float32")
    >>> tuple(kernels.attention(heads, heads, heads, mask=masks.Causal()).shape)
    (2, 4, 7, 16)

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762.
    """
    if kernel not in KERNELS:
        raise ValueError(f"`kernel` must be one of {KERNELS}. Received: kernel={kernel!r}.")
    query, key, value = (ops.convert_to_tensor(tensor) for tensor in (query, key, value))
    sizes = _check_shapes(query, key, value)
    if mask is not None and not isinstance(mask, masks.Mask):
        mask = ops.convert_to_tensor(mask)
        masks.check_attention_mask("mask", mask, "BHTS", sizes)
        mask = masks.Explicit(mask)
    if bias is not None:
        bias = ops.convert_to_tensor(bias)
        check_broadcast("bias", bias, "BHTS", sizes)
    if key_length is not None:
        key_length = ops.cast(key_length, "int32")
        mask = masks.combine(mask, masks.KeyLength(key_length))
    grid = whole_grid(query, key, query_offset, key_length)
    return dense_attention(
        query,
        key,
        value,
        visible=None if mask is None else mask.visible(grid),
        bias=bias,
        scale=query.shape[-1] ** -0.5 if scale is None else scale,
        softcap=softcap,
        dropout=dropout,
        seed=seed,
        return_scores=return_scores,
    )


def whole_grid(query, key, query_offset=None, key_length=None):
    """Returns the `Grid` of all queries against all keys.

    The first query stands at `query_offset`; by default the last one stands at the last key
    in use.
    """
    target_length, source_length = ops.shape(query)[2], ops.shape(key)[2]
    if query_offset is None:
        query_offset = (source_length if key_length is None else key_length) - target_length
    offset = ops.reshape(ops.cast(query_offset, "int32"), (-1, 1, 1, 1))
    return masks.Grid(
        query_index=offset + ops.reshape(ops.arange(target_length), (1, 1, -1, 1)),
        key_index=ops.reshape(ops.arange(source_length), (1, 1, 1, -1)),
    )


def _check_shapes(query, key, value):
    sizes = check_axes({"query": "BHTK", "key": "BGSK", "value": "BGSV"}, {"query": query, "key": key, "value": value})
    heads, kv_heads = sizes.get("H"), sizes.get("G")
    if heads is None or kv_heads is None or heads % kv_heads:
        raise ValueError(
            "The heads of `query` must be static and a multiple of those of `key`. "
            f"Received: query.shape={tuple(query.shape)}, key.shape={tuple(key.shape)}."
        )
    return sizes
