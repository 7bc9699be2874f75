"""The base class of objects for the `position` argument of an attention layer."""

from __future__ import annotations

from keras_attn.base.types import ArrayLike, Tensor
from keras_attn.kernels.biases import Bias


class HeadPosition:
    """Positions that change heads or scores, not embeddings. Subclasses define one of the two methods."""

    def turn(self, heads: Tensor, positions: Tensor) -> Tensor:
        """Returns queries or keys `[B, H, T, K]`, rotated by their integer positions `[B or 1, T]`."""
        del positions
        return heads

    def bias(
        self, num_heads: int, query_positions: ArrayLike | None = None, key_positions: ArrayLike | None = None
    ) -> Bias | None:
        """Returns the `kernels.Bias` that is added to the scores, or None.

        Args:
            num_heads: Number of query heads H.
            query_positions, key_positions: Integers `[B, T]` and `[B, S]`; None means the
                indices of queries and keys.
        """
        del num_heads, query_positions, key_positions
        return None
