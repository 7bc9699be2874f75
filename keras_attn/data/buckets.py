"""Boundaries of buckets that need the least padding."""

from __future__ import annotations

import numpy as np

from keras_attn.base.checks import check_positive
from keras_attn.data.pairs import Pairs

CANDIDATES = 512  # boundaries to choose from: the search needs memory for their square


def boundaries(pairs: Pairs, num_buckets: int) -> tuple[int, ...]:
    """Returns the increasing boundaries of buckets that need the least padding.

    Args:
        pairs: The `Pairs`.
        num_buckets: Maximum number of buckets.

    Raises:
        ValueError: If `pairs` are not `Pairs`, or `num_buckets` is not a positive integer.

    Example:
    >>> from keras_attn import data
    >>> lengths = [1, 2, 2, 3, 8, 9]
    >>> pairs = data.encode([([5] * n, [5]) for n in lengths], data.Ids(9), data.Ids(9))
    >>> data.boundaries(pairs, 2)  # the end id counts
    (4, 10)
    """
    if not isinstance(pairs, Pairs):
        raise ValueError(f"`pairs` must be `Pairs`, see `encode`. Received: {pairs.__class__.__name__}.")
    check_positive("num_buckets", num_buckets)
    lengths, counts = np.unique(rounded_up(pairs.lengths.max(axis=1)), return_counts=True)
    below = np.append(0, np.cumsum(counts))
    cost = lengths * (below[1:] - below[:-1, None])  # [first length, last length] of a bucket: its positions
    cost = np.where(np.tri(len(lengths), k=-1, dtype=bool), np.inf, cost)
    best, choices = cost[0], []  # the fewest positions for all pairs up to each length
    for _ in range(min(num_buckets, len(lengths)) - 1):
        total = np.append(0, best)[:-1, None] + cost  # [first length of the last bucket, last length]
        choices.append(total.argmin(axis=0))
        best = total.min(axis=0)
    last, found = len(lengths) - 1, []
    for firsts in [*reversed(choices), None]:
        found.append(int(lengths[last]))
        last = -1 if firsts is None else int(firsts[last]) - 1
        if last < 0:
            break
    return tuple(reversed(found))


def rounded_up(lengths: np.ndarray) -> np.ndarray:
    """Returns lengths `[P]`, rounded up to quantiles if there are more than `CANDIDATES` different ones."""
    different = np.unique(lengths)
    if len(different) <= CANDIDATES:
        return lengths
    kept = np.unique(np.quantile(lengths, np.linspace(0, 1, CANDIDATES), method="higher"))
    return kept[np.searchsorted(kept, lengths)]
