"""Additive attention for one query per row, as in the steps of a recurrent decoder, and for whole sequences."""

from __future__ import annotations

from keras import ops

from keras_attn import masks
from keras_attn.backend import tanh_gradient, value_of, with_gradient
from keras_attn.base.checks import check_attention_mask, check_axes
from keras_attn.base.tensors import to_tensor
from keras_attn.base.types import ArrayLike, Tensor
from keras_attn.kernels.blockwise import Blockwise, blockwise_attention
from keras_attn.kernels.indices import whole_grid
from keras_attn.kernels.tile_scores import AdditiveTile
from keras_attn.kernels.tiling import Tiling

BLOCKS = 16, 64  # of queries and keys: a tile's tanh holds U numbers for each of its scores


def additive_scores(query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    """Computes `e_j = v . tanh(query + keys_j)` (Bahdanau et al. 2015, arXiv:1409.0473).

    The gradient recomputes the tanh, so that a loop over steps does not store it. Keeping it was measured too: a
    training step of 40 x 40 positions and 256 units took as long, with 105 MB more.

    Args:
        query: The projected query `W s`, `[B, U]`.
        keys: The projected memory `V h_j`, `[B, S, U]`.
        v: `[U]`.

    Returns:
        `[B, S]`.
    """

    def forward(query: Tensor, keys: Tensor, v: Tensor) -> tuple[Tensor, tuple[()]]:
        hidden = ops.tanh(query[:, None, :] + keys)
        products = ops.matmul(ops.reshape(hidden, (-1, hidden.shape[-1])), v[:, None])
        return ops.reshape(products, ops.shape(hidden)[:2]), ()

    def gradient(
        upstream: Tensor, kept: tuple[()], query: Tensor, keys: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden = ops.tanh(query[:, None, :] + keys)
        v_gradient = ops.matmul(ops.reshape(upstream, (1, -1)), ops.reshape(hidden, (-1, hidden.shape[-1])))[0]
        keys_gradient = tanh_gradient(hidden, upstream[..., None] * v)
        return ops.sum(keys_gradient, axis=1), keys_gradient, v_gradient

    return with_gradient(forward, gradient, *(value_of(ops.convert_to_tensor(tensor)) for tensor in (query, keys, v)))


def additive_attention(
    query: Tensor,
    keys: Tensor,
    v: Tensor,
    memory: Tensor,
    mask: masks.Mask | ArrayLike | None = None,
    return_scores: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Computes additive attention for all queries of a sequence at once.

    `e_ij = v . tanh(query_i + keys_j)`, `a_ij = softmax_j(e_ij)`, `c_i = sum_j a_ij h_j`, tile
    by tile: `[B, T, S, U]` is never built, and `[B, T, S]` only if the scores are returned. The
    gradient recomputes the tiles.

    Args:
        query: The projected queries `W s_i`, `[B, T, U]`.
        keys: The projected memory `V h_j`, `[B, S, U]`.
        v: `[U]`.
        memory: `[B, S, M]`.
        mask: A mask object (`keras_attn.masks`), or a boolean tensor that broadcasts to
            `[B, T, S]`; None means that every query sees every key. A query that sees no key yields zeros.
        return_scores: Whether to return the scores a too.

    Returns:
        The contexts c, `[B, T, M]`; with `return_scores` a tuple of them and the scores `[B, T, S]`.

    Raises:
        ValueError: For shapes that do not match.

    Example:
    >>> import numpy as np
    >>> from keras_attn import kernels
    >>> query, keys, memory = (np.ones((2, n, 4), "float32") for n in (3, 5, 5))
    >>> kernels.additive_attention(query, keys, np.ones(4, "float32"), memory).shape.as_list()
    [2, 3, 4]

    References:
        Bahdanau et al. 2015, arXiv:1409.0473; Rabe and Staats 2021, arXiv:2112.05682.
    """
    axes = {"query": "BTU", "keys": "BSU", "v": "U", "memory": "BSM"}
    query, keys, v, memory = (value_of(ops.convert_to_tensor(tensor)) for tensor in (query, keys, v, memory))
    sizes = check_axes(axes, {"query": query, "keys": keys, "v": v, "memory": memory})
    if mask is not None and not isinstance(mask, masks.Mask):
        mask = to_tensor("mask", mask)
        check_attention_mask("mask", mask, "BTS", sizes)
        mask = masks.Explicit(mask)
    value = memory
    if return_scores:  # the scores are the contexts of an identity matrix as memory
        identity = ops.eye(ops.shape(memory)[1], dtype=memory.dtype)
        shape = (ops.shape(memory)[0], *ops.shape(identity))
        value = ops.concatenate([memory, ops.broadcast_to(identity, shape)], axis=-1)
    query, keys, value = (tensor[:, None] for tensor in (query, keys, value))  # one head
    tiling = Tiling.of(mask, whole_grid(query, keys), query, keys, BLOCKS)
    options = Blockwise(tiling, num_heads=1, score=AdditiveTile(v))
    outputs = blockwise_attention(query, keys, value, 1, options)[:, 0]  # [B, T, M or M + S]
    if not return_scores:
        return outputs
    return outputs[..., : memory.shape[-1]], outputs[..., memory.shape[-1] :]
