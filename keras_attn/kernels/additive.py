"""Additive attention of one query per row, as a recurrent decoder asks it at each step."""

from keras import ops

from keras_attn.kernels.softmax import masked_softmax


def additive_scores(query, keys, v):
    """`e_j = v . tanh(query + keys_j)` (Bahdanau et al. 2015, arXiv:1409.0473).

    Args:
        query: The projected query `W s`, `[B, U]`.
        keys: The projected memory `V h_j`, `[B, S, U]`.
        v: `[U]`.

    Returns:
        `[B, S]`.
    """
    # A sum of products: a matrix product with v would not compile under XLA inside a loop.
    return ops.sum(ops.tanh(query[:, None, :] + keys) * v, axis=-1)


def read_memory(scores, memory, memory_mask=None):
    """`a = softmax(scores)` over the unmasked memory, `c = sum_j a_j h_j`.

    Args:
        scores: `[B, S]`.
        memory: `[B, S, M]`.
        memory_mask: Boolean `[B, S]`, or None. A row without any memory reads zeros.

    Returns:
        The context c `[B, M]` and the weights a `[B, S]`, in the dtype of `memory`.
    """
    weights = ops.cast(masked_softmax(scores, memory_mask), memory.dtype)
    return ops.einsum("bs,bsm->bm", weights, memory), weights
