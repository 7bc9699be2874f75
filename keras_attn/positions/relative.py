"""Positions as a bias of the scores: by the distance of query and key alone."""

import math

import keras
import numpy as np

from keras_attn.backend import value_of
from keras_attn.base.checks import check_positive
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import Slot, register
from keras_attn.kernels.biases import BucketBias, LinearBias
from keras_attn.positions.heads import HeadPosition


@register
class Alibi(HeadPosition, Slot):
    """Scores fall linearly with the distance, at a slope of each head's own; nothing is learned.

    `score_ij - m_h |i - j|`, with `m_h = 2^(-8 h / H)` for h = 1 ... H where H is a power of 2;
    for other H the slopes of the next lower power, and then every other one of the next higher.

    Example:
    >>> from keras_attn import Alibi, Causal, MultiHeadSelfAttention
    >>> layer = MultiHeadSelfAttention(num_heads=8, mask=Causal(), position=Alibi())

    References:
        Press et al. 2022, Train Short, Test Long, arXiv:2108.12409.
    """

    def bias(self, num_heads, query_positions=None, key_positions=None):
        return LinearBias(query_positions, key_positions, slopes=alibi_slopes(num_heads))


def alibi_slopes(num_heads):
    """Returns the slopes `[H]` of the paper's own code."""
    power = 2 ** int(math.log2(num_heads))
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-4 * (h + 1) / power) for h in range(0, 2 * power, 2)]
    return np.array(slopes + between[: num_heads - power])


@register
class RelativeBias(HeadPosition, BaseLayer):
    """A learned number per head and bucket of distances is added to the scores.

    `score_ij + table[bucket(j - i), h]`. Half of the buckets hold one distance each, the others
    ranges that grow geometrically up to `max_distance`, the last one all beyond. As T5 has
    no scaling of the scores, its weights fit after a factor `sqrt(K)` in the query projection.

    Args:
        num_buckets: Number R of buckets.
        max_distance: Distance from which on all share a bucket.
        bidirectional: Whether keys ahead have buckets of their own, half of all; without, they
            share the bucket of distance 0, as a causal mask hides them anyway.

    It fills the `position=` slot of `MultiHeadSelfAttention` and of the blocks. Each layer of a
    stack has a table of its own.

    Raises:
        ValueError: If there are too few buckets, or too short a `max_distance`.

    Example:
    >>> import numpy as np
    >>> from keras_attn import MultiHeadSelfAttention, RelativeBias
    >>> layer = MultiHeadSelfAttention(num_heads=4, position=RelativeBias())
    >>> layer(np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 5, 16]

    Returns and call arguments: none of its own; the attention that has it asks for its `bias`.

    References:
        Raffel et al. 2020, Exploring the Limits of Transfer Learning, arXiv:1910.10683, section 2.1.
    """

    def __init__(self, num_buckets=32, max_distance=128, bidirectional=True, **kwargs):
        super().__init__(**kwargs)
        check_positive("num_buckets", num_buckets)
        check_positive("max_distance", max_distance)
        least = 4 if bidirectional else 2
        if num_buckets < least or num_buckets % (least // 2):
            raise ValueError(f"`num_buckets` must be even and at least {least}. Received: num_buckets={num_buckets}.")
        if max_distance <= num_buckets // least:
            raise ValueError(
                f"`max_distance` must be beyond the {num_buckets // least} distances that have a bucket each. "
                f"Received: max_distance={max_distance}."
            )
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def build(self, scores_shape):
        """Makes the table for scores `[B, H, T, S]`."""
        self.table = self.add_weight(
            name="table",
            shape=(self.num_buckets, scores_shape[1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            autocast=False,  # float32 whatever the policy
        )

    def bias(self, num_heads, query_positions=None, key_positions=None):
        if self.table.shape[1] != num_heads:
            raise ValueError(
                "`position` must not be shared by attentions of different `num_heads`. "
                f"Received: a table for {self.table.shape[1]} heads, num_heads={num_heads}."
            )
        table = value_of(keras.ops.convert_to_tensor(self.table))
        return BucketBias(query_positions, key_positions, tensor=table, buckets=self.buckets())

    def buckets(self):
        """Returns the buckets of the distances -max_distance ... max_distance, a NumPy array of int32."""
        distances = np.arange(-self.max_distance, self.max_distance + 1, dtype="int32")
        if not self.bidirectional:
            return distance_buckets(np.maximum(-distances, 0), self.num_buckets, self.max_distance)
        half = self.num_buckets // 2
        return half * (distances > 0).astype("int32") + distance_buckets(np.abs(distances), half, self.max_distance)


def distance_buckets(distances, num_buckets, max_distance):
    """Returns the buckets of distances from 0 on: the first half exact, then geometric ranges."""
    exact = num_buckets // 2
    ranges = num_buckets - exact
    edges = exact * (max_distance / exact) ** (np.arange(1, ranges) / ranges)  # where the next range begins
    further = exact + np.searchsorted(edges * (1 - 1e-9), distances, side="right")
    return np.where(distances < exact, distances, further).astype("int32")
