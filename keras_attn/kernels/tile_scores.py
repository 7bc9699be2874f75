"""How the scores of a tile come out of its queries and keys, and the gradient back into them."""

import dataclasses
from typing import Any

from keras import ops

from keras_attn.backend import product
from keras_attn.backend.precision import at_least_float32


@dataclasses.dataclass(frozen=True)
class DotTile:
    """`query . key`, for queries that are scaled already.

    Attributes:
        tensor: What is trained in the score itself: nothing.
    """

    tensor: Any = None

    def scores(self, query, key, tensor):
        """`[B, H, t, K]`, `[B, H, s, K]` -> `[B, H, t, s]` in float32 or wider."""
        del tensor
        return product(query, key, transpose_right=True)

    def gradients(self, score_grads, query, key, tensor):
        """Returns the gradients of a tile by query, by key, and by `tensor` if there is one."""
        del tensor
        return product(score_grads, key), product(score_grads, query, transpose_left=True), ()


@dataclasses.dataclass(frozen=True)
class AdditiveTile:
    """Bahdanau's `v . tanh(query + key)`; the tile of tanh `[B, H, t, s, U]` is computed again for the gradient.

    Attributes:
        tensor: v, `[U]`.
    """

    tensor: Any = None

    def scores(self, query, key, tensor):
        """`[B, H, t, U]`, `[B, H, s, U]` -> `[B, H, t, s]` in float32 or wider."""
        return ops.sum(self._tanh(query, key) * ops.cast(tensor, at_least_float32(tensor.dtype)), axis=-1)

    def gradients(self, score_grads, query, key, tensor):
        """Returns the gradients of a tile by query, by key, and by v."""
        tanh, score_grads = self._tanh(query, key), score_grads[..., None]
        inner = score_grads * (1 - tanh * tanh) * ops.cast(tensor, tanh.dtype)  # [B, H, t, s, U]
        return ops.sum(inner, axis=3), ops.sum(inner, axis=2), ops.sum(score_grads * tanh, axis=(0, 1, 2, 3))

    def _tanh(self, query, key):
        tanh = ops.tanh(query[..., None, :] + key[..., None, :, :])
        return ops.cast(tanh, at_least_float32(tanh.dtype))
