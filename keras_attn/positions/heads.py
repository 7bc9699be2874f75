"""What fills an attention layer's `position=` slot."""


class HeadPosition:
    """Acts on the heads or on their scores, not on embeddings. Subclasses define one of the two methods."""

    def turn(self, heads, positions):
        """Returns queries or keys `[B, H, T, K]` turned by their integer positions `[B or 1, T]`."""
        del positions
        return heads

    def bias(self, num_heads, query_positions=None, key_positions=None):
        """Returns the `kernels.Bias` that is added to the scores, or None.

        Args:
            num_heads: Number of query heads H.
            query_positions, key_positions: Integers `[B, T]` and `[B, S]`; None means the
                indices of queries and keys.
        """
        del num_heads, query_positions, key_positions
