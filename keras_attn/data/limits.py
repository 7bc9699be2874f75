"""What becomes of pairs that are too long: left out, or cut."""

import numpy as np

from keras_attn.base.checks import check_positive
from keras_attn.base.slot import Slot, register


class Limit(Slot):
    """Bounds the positions of a pair, the end id counted; None leaves it to the tokenizer's `max_length`.

    Args:
        source_length: Positions of a source at most.
        target_length: Positions of a target at most.

    Raises:
        ValueError: If a length is neither None nor an integer of at least 1, or 2 where texts are cut.
    """

    least = 1

    def __init__(self, source_length=None, target_length=None):
        for name, length in (("source_length", source_length), ("target_length", target_length)):
            if length is not None:
                check_positive(name, length)
                if length < self.least:
                    raise ValueError(f"`{name}` must be at least {self.least}. Received: {name}={length}.")
        self.source_length = source_length
        self.target_length = target_length

    def bound(self, side):
        """Returns the length that a side may have, or infinity."""
        length = getattr(self, f"{side}_length")
        return np.inf if length is None else length

    def cut(self, lengths, bound):
        """Returns the lengths `[P]` that texts are cut to where no more than `bound` may be."""
        return lengths


@register
class DropLonger(Limit):
    """Leaves out, and counts, pairs with more positions than these; arguments as `Limit`.

    Example:
    >>> from keras_attn.data import DropLonger
    >>> limit = DropLonger(source_length=64, target_length=64)
    """


@register
class CutLonger(Limit):
    """Cuts the ends of longer texts, and counts them, so that their end id is the last position; as `Limit`.

    Example:
    >>> from keras_attn.data import CutLonger
    >>> limit = CutLonger(source_length=64)
    """

    least = 2  # a token beside the end id

    def cut(self, lengths, bound):
        return np.minimum(lengths, bound).astype(lengths.dtype)
