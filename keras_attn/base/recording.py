"""The scores of attention layers, recorded by layer path while a model runs."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import keras

from keras_attn.base.types import Tensor

_recorded: contextvars.ContextVar[dict[str, Tensor] | None] = contextvars.ContextVar("recorded", default=None)


@contextlib.contextmanager
def recording() -> Iterator[dict[str, Tensor]]:
    """Records the scores of all attention layers that run in the context; yields a dictionary by layer path."""
    scores_of: dict[str, Tensor] = {}
    token = _recorded.set(scores_of)
    try:
        yield scores_of
    finally:
        _recorded.reset(token)


def is_recording() -> bool:
    """Returns whether scores are recorded, so that every attention layer must compute them."""
    return _recorded.get() is not None


def record(layer: keras.layers.Layer, scores: Tensor) -> None:
    """Records the scores of a layer; those of its second run are recorded as `path (2)`."""
    scores_of = _recorded.get()
    if scores_of is not None:
        times = 1 + sum(path.partition(" (")[0] == layer.path for path in scores_of)
        scores_of[layer.path if times == 1 else f"{layer.path} ({times})"] = scores
