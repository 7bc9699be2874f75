"""Scores of attention layers, recorded while a model runs, by the path of each layer."""

import contextlib
import contextvars

_recorded = contextvars.ContextVar("recorded", default=None)


@contextlib.contextmanager
def recording():
    """Records the scores of all attentions that run inside; yields the dictionary, by layer path."""
    token = _recorded.set({})
    try:
        yield _recorded.get()
    finally:
        _recorded.reset(token)


def is_recording():
    """Whether scores are recorded, which a layer then has to compute."""
    return _recorded.get() is not None


def record(layer, scores):
    """Records the scores of a layer; a layer that runs again gets a number: `path (2)`."""
    scores_of = _recorded.get()
    if scores_of is not None:
        times = 1 + sum(path.partition(" (")[0] == layer.path for path in scores_of)
        scores_of[layer.path if times == 1 else f"{layer.path} ({times})"] = scores
