"""Limits of the lengths of pairs: longer pairs are dropped or truncated."""

from __future__ import annotations

import numpy as np

from keras_attn.base.checks import check_positive
from keras_attn.base.slot import Slot, register


class Limit(Slot):
    """The maximum lengths of a pair, including end ids; None for the `max_length` of the tokenizer.

    Args:
        source_length: Maximum length of a source.
        target_length: Maximum length of a target.

    Raises:
        ValueError: If a length is neither None nor an integer of at least 1, or 2 where texts are truncated.
    """

    least: int = 1

    def __init__(self, source_length: int | None = None, target_length: int | None = None) -> None:
        for name, length in (("source_length", source_length), ("target_length", target_length)):
            if length is not None:
                check_positive(name, length)
                if length < self.least:
                    raise ValueError(f"`{name}` must be at least {self.least}. Received: {name}={length}.")
        self.source_length = source_length
        self.target_length = target_length

    def bound(self, side: str) -> float:
        """Returns the maximum length of a side, or infinity."""
        length = getattr(self, f"{side}_length")
        return np.inf if length is None else length

    def cut(self, lengths: np.ndarray, bound: float) -> np.ndarray:
        """Returns the lengths `[P]` of texts after truncation to `bound`."""
        return lengths


@register
class DropLonger(Limit):
    """Drops and counts pairs that are longer; arguments as for `Limit`.

    Example:
    >>> from keras_attn.data import DropLonger
    >>> limit = DropLonger(source_length=64, target_length=64)
    """


@register
class CutLonger(Limit):
    """Truncates and counts longer texts; the end id stays the last one. Arguments as for `Limit`.

    Example:
    >>> from keras_attn.data import CutLonger
    >>> limit = CutLonger(source_length=64)
    """

    least = 2  # a token and the end id

    def cut(self, lengths: np.ndarray, bound: float) -> np.ndarray:
        return np.minimum(lengths, bound).astype(lengths.dtype)
