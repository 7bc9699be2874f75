"""Whether a pattern hides the future, which is what decoding step by step needs."""

import numpy as np

from keras_attn.base.tensors import short_repr

NEAR = 1024
QUERIES = np.array([*range(64), 97, 127, 128, 211, 255, 256, 509, 1000, 1023, 4096, 65_537, 1_000_003])


def check_hides_the_future(mask):
    """Raises a `ValueError` unless the pattern hides later keys from every query: steps cannot look ahead.

    A pattern that knows how far `ahead` it sees is believed where that is 0, and asked about every
    distance up to it where that is at most 65,536. Any other, such as `Where(function)`, is asked
    about the first 64 positions and then, unless it raises an `IndexError` (a table need not go
    further), about the distances 1 ... 1,024 and some up to 2^30, from small and large queries.
    What looks ahead at other places only is not seen.
    """
    if mask is None or sees_the_future(mask):
        raise ValueError(
            f"`mask` must hide the future to decode step by step, as `Causal()` does. Received: {short_repr(mask)}."
        )


def sees_the_future(mask):
    """Whether a query sees a later key, as far as `check_hides_the_future` looks."""
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
    try:
        return any(np.any(np.asarray(mask(query, query + distances))) for query in QUERIES.reshape(-1, 1, 1))
    except IndexError:
        return False
