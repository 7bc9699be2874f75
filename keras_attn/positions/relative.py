"""Positions as a bias of the scores, which depends only on the distance between query and key."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import keras
import numpy as np
from numpy.typing import NDArray

from keras_attn.backend import value_of
from keras_attn.base.checks import check_positive
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import Slot, register
from keras_attn.base.types import ArrayLike, LayerArguments, Shape
from keras_attn.kernels.biases import BucketBias, LinearBias
from keras_attn.positions.heads import HeadPosition

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class Alibi(HeadPosition, Slot):
    """Scores decrease linearly with the distance, with a fixed slope for each head.

    `score_ij - m_h |i - j|`, with `m_h = 2^(-8 h / H)` for h = 1 ... H if H is a power of 2. For other
    H, the slopes are those of the next lower power of 2, then every second one of the next higher power.

    Example:
    >>> from keras_attn import Alibi, Causal, MultiHeadSelfAttention
    >>> layer = MultiHeadSelfAttention(num_heads=8, mask=Causal(), position=Alibi())

    References:
        Press et al. 2022, Train Short, Test Long, arXiv:2108.12409.
    """

    def bias(
        self, num_heads: int, query_positions: ArrayLike | None = None, key_positions: ArrayLike | None = None
    ) -> LinearBias:
        return LinearBias(query_positions, key_positions, slopes=alibi_slopes(num_heads))


def alibi_slopes(num_heads: int) -> NDArray[np.floating]:
    """Returns the slopes `[H]`, computed as in the authors' code."""
    power = 2 ** int(math.log2(num_heads))
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-4 * (h + 1) / power) for h in range(0, 2 * power, 2)]
    return np.array(slopes + between[: num_heads - power])


@register
class RelativeBias(HeadPosition, BaseLayer):
    """Adds a learned number per head and bucket of distances to the scores.

    `score_ij + table[bucket(j - i), h]`. Half of the buckets contain one distance each. The others
    contain ranges that grow geometrically up to `max_distance`; the last range is unbounded. T5 uses it
    with `DotProduct(scale=1.0)`.

    Args:
        num_buckets: Number R of buckets.
        max_distance: All distances from this one on are in the same bucket.
        bidirectional: Whether half of the buckets are for keys after the query. If not, these keys
            use the bucket of distance 0, because a causal mask hides them anyway.

    Use it as the `position` argument of `MultiHeadSelfAttention` and of the blocks, where each layer has its own
    table, or as that of `Encoder` and `Decoder`, where all blocks share one table.

    Raises:
        ValueError: If `num_buckets` or `max_distance` is too small.

    Example:
    >>> import numpy as np
    >>> from keras_attn import MultiHeadSelfAttention, RelativeBias
    >>> layer = MultiHeadSelfAttention(num_heads=4, position=RelativeBias())
    >>> layer(np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 5, 16]

    It is not called itself: the attention layer uses its method `bias`.

    References:
        Raffel et al. 2020, Exploring the Limits of Transfer Learning, arXiv:1910.10683, section 2.1.
    """

    def __init__(
        self,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_positive("num_buckets", num_buckets)
        check_positive("max_distance", max_distance)
        least = 4 if bidirectional else 2
        if num_buckets < least or num_buckets % (least // 2):
            raise ValueError(f"`num_buckets` must be even and at least {least}. Received: num_buckets={num_buckets}.")
        if max_distance <= num_buckets // least:
            raise ValueError(
                f"`max_distance` must be beyond the {num_buckets // least} distances that have their own buckets. "
                f"Received: max_distance={max_distance}."
            )
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def build(self, scores_shape: Shape) -> None:
        """Creates the table for scores `[B, H, T, S]`."""
        self.table = self.add_weight(
            name="table",
            shape=(self.num_buckets, scores_shape[1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            autocast=False,  # float32 for every policy
        )

    def bias(
        self, num_heads: int, query_positions: ArrayLike | None = None, key_positions: ArrayLike | None = None
    ) -> BucketBias:
        if self.table.shape[1] != num_heads:
            raise ValueError(
                "`position` must not be shared by attention layers with different `num_heads`. "
                f"Received: a table for {self.table.shape[1]} heads, num_heads={num_heads}."
            )
        table = value_of(keras.ops.convert_to_tensor(self.table))
        return BucketBias(query_positions, key_positions, tensor=table, buckets=self.buckets())

    def buckets(self) -> NDArray[np.int32]:
        """Returns the buckets of the distances -max_distance ... max_distance."""
        distances = np.arange(-self.max_distance, self.max_distance + 1, dtype="int32")
        if not self.bidirectional:
            return distance_buckets(np.maximum(-distances, 0), self.num_buckets, self.max_distance)
        half = self.num_buckets // 2
        return half * (distances > 0).astype("int32") + distance_buckets(np.abs(distances), half, self.max_distance)


def distance_buckets(distances: NDArray[np.int32], num_buckets: int, max_distance: int) -> NDArray[np.int32]:
    """Returns the buckets of distances of at least 0: the first half exact, then geometric ranges."""
    exact = num_buckets // 2
    ranges = num_buckets - exact
    edges = exact * (max_distance / exact) ** (np.arange(1, ranges) / ranges)  # where the next range begins
    farther = exact + np.searchsorted(edges * (1 - 1e-9), distances, side="right")
    return np.where(distances < exact, distances, farther).astype("int32")
