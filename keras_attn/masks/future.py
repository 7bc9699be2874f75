"""Whether a pattern hides the future, which decoding step by step requires."""

from __future__ import annotations

import numpy as np

from keras_attn.base.tensors import short_repr
from keras_attn.masks.algebra import Pattern
from keras_attn.masks.patterns import Global

NEAR = 1024
QUERIES = [*range(64), 97, 127, 128, 211, 255, 256, 509, 1000, 1023, 4096, 65_537, 1_000_003]


def check_hides_the_future(mask: Pattern | None) -> Pattern:
    """Returns the pattern if it hides later keys from every query, as decoding step by step requires.

    A pattern whose `ahead` is 0 passes. All others are evaluated at sample queries: those up to index 63, some
    larger ones, and the positions of `Global`. If `ahead` is known and at most 65,536, every distance up to it is
    tested; otherwise the distances 1 ... 1,024 and some up to 2^30. If the pattern raises an `IndexError`, as a
    table does beyond its size, only the first 64 positions are tested. A pattern that looks ahead only at other
    queries or distances is not detected.

    Raises:
        ValueError: If a query may attend to a later key, or if `mask` is None.
    """
    if mask is None or sees_the_future(mask):
        raise ValueError(
            f"`mask` must hide the future to decode step by step, as `Causal()` does. Received: {short_repr(mask)}."
        )
    return mask


def sees_the_future(mask: Pattern) -> bool:
    """Returns whether a query may attend to a later key, as far as `check_hides_the_future` tests it."""
    if mask.ahead is not None and mask.ahead <= 0:
        return False
    near = np.arange(64)
    if np.any(np.asarray(mask(near[:, None], near)) & (near > near[:, None])):
        return True
    if mask.ahead is not None and mask.ahead <= 2**16:
        distances = np.arange(1, mask.ahead + 1)
    else:
        powers = 2 ** np.arange(10, 31)
        distances = np.unique([*range(1, NEAR + 1), *powers, *(powers - 1), *(powers * 4 // 7), *(powers * 5 // 9)])
    # Another pattern may hide a global position as a query or as a key, so the query before it is tested too.
    positions = {index for part in mask.parts() if isinstance(part, Global) for index in part.indices}
    queries = [*QUERIES, *(max(query, 0) for index in sorted(positions) for query in (index - 1, index))]
    try:
        return any(np.any(np.asarray(mask(query, query + distances))) for query in np.reshape(queries, (-1, 1, 1)))
    except IndexError:
        return False
