"""Which kernel runs: what the caller pinned, what the user pinned for all, or what was measured to be faster."""

from keras_attn.kernels.measured import BLOCKWISE_FROM, BLOCKWISE_FROM_FAR_HIDDEN
from keras_attn.masks import Span

KERNELS = ("auto", "dense", "blockwise")
pinned = {"kernel": "auto"}


def check_kernel(kernel):
    """Returns `kernel` if it is the name of one, else raises a `ValueError`."""
    if kernel not in KERNELS:
        raise ValueError(f"`kernel` must be one of {KERNELS}. Received: kernel={kernel!r}.")
    return kernel


def choose_kernel(kernel, query, key, mask, return_scores):
    """Returns the name of the kernel for queries `[B, H, T, K]` and keys `[B, H_kv, S, K]`."""
    if check_kernel(kernel) == "blockwise" and return_scores:
        raise ValueError('`kernel` must be "dense" or "auto" where the scores are asked for. Received: \'blockwise\'.')
    if return_scores:
        return "dense"
    kernel = pinned["kernel"] if kernel == "auto" else kernel
    if kernel != "auto":
        return kernel
    lengths = query.shape[2], key.shape[2]
    if None in lengths:
        return "dense"
    least = BLOCKWISE_FROM_FAR_HIDDEN if hides_far_keys(mask, *lengths) else BLOCKWISE_FROM
    return "blockwise" if lengths[0] * lengths[1] >= least else "dense"


def hides_far_keys(mask, target_length, source_length):
    """Whether the mask surely hides the last third of the keys from the first third of the queries."""
    if mask is None or min(target_length, source_length) < 3:
        return False
    first = source_length - target_length  # bottom-right alignment
    span = Span(first, first + target_length // 3 - 1, source_length - source_length // 3, source_length - 1)
    return mask.spans(span)[0] is False
