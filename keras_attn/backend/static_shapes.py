"""What the adapters of JAX and PyTorch share: Keras' own arithmetic, and shapes that do not depend on values."""

from __future__ import annotations

import keras

from keras_attn.base.types import Tensor


def dropout(x: Tensor, rate: float, seed: keras.random.SeedGenerator) -> Tensor:
    """Returns `x` with a share `rate` of its elements set to 0 and the others divided by `1 - rate`."""
    return keras.random.dropout(x, rate, seed=seed)


def has_free_shapes() -> bool:
    """As the TensorFlow adapter's `has_free_shapes`."""
    return False


def real_rows(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Raises an error, because shapes must not depend on values."""
    raise NotImplementedError("Only TensorFlow packs real positions.")


def gather_rows(x: Tensor, rows: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Raises an error, because shapes must not depend on values."""
    raise NotImplementedError("Only TensorFlow packs real positions.")


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor | None, epsilon: float) -> Tensor:
    """Normalises the last axis of `x` `[..., D]`, which is at least float32."""
    return keras.ops.layer_normalization(x, gamma, beta, axis=-1, epsilon=epsilon)
