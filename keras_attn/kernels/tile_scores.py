"""The scores of a tile as a function of its queries and keys, and the gradients of this function."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from keras import ops

from keras_attn.backend import product
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.types import State, Tensor


@dataclasses.dataclass(frozen=True)
class DotTile:
    """`query . key`, for queries that are already scaled.

    Attributes:
        tensor: The trained tensor of the score: None.
    """

    tensor: Tensor | None = None

    def scores(self, query: Tensor, key: Tensor, tensor: Tensor | None) -> Tensor:
        """`[B, H, t, K]`, `[B, H, s, K]` -> `[B, H, t, s]` in float32 or wider."""
        del tensor
        return product(query, key, transpose_right=True)

    def gradients(
        self, score_grads: Tensor, query: Tensor, key: Tensor, tensor: Tensor | None
    ) -> tuple[Tensor, Tensor, State]:
        """Returns the gradients of a tile with respect to query and key, and `()` for the trained tensor."""
        del tensor
        return product(score_grads, key), product(score_grads, query, transpose_left=True), ()


@dataclasses.dataclass(frozen=True)
class AdditiveTile:
    """Bahdanau's `v . tanh(query + key)`; the tile of tanh `[B, H, t, s, U]` is recomputed for the gradient.

    Attributes:
        tensor: v, `[U]`.
    """

    tensor: Tensor = None

    def scores(self, query: Tensor, key: Tensor, tensor: Tensor) -> Tensor:
        """`[B, H, t, U]`, `[B, H, s, U]` -> `[B, H, t, s]` in float32 or wider."""
        return ops.sum(self._tanh(query, key) * ops.cast(tensor, at_least_float32(tensor.dtype)), axis=-1)

    def gradients(
        self, score_grads: Tensor, query: Tensor, key: Tensor, tensor: Tensor
    ) -> tuple[Tensor, Tensor, State]:
        """Returns the gradients of a tile with respect to query, key and v."""
        tanh, score_grads = self._tanh(query, key), score_grads[..., None]
        inner = score_grads * (1 - tanh * tanh) * ops.cast(tensor, tanh.dtype)  # [B, H, t, s, U]
        return ops.sum(inner, axis=3), ops.sum(inner, axis=2), ops.sum(score_grads * tanh, axis=(0, 1, 2, 3))

    def _tanh(self, query: Tensor, key: Tensor) -> Tensor:
        tanh = ops.tanh(query[..., None, :] + key[..., None, :, :])
        return ops.cast(tanh, at_least_float32(tanh.dtype))


TileScore: TypeAlias = DotTile | AdditiveTile
