"""Mask objects: which key a query may see.

*Patterns* (`Causal`, `Window`, ...) are functions of the query's and the key's index; they
fill a layer's `mask=` slot and are saved with it. *Call masks* (`Padding`, `Segments`, ...)
hold tensors of one call. `&`, `|` and `~` join any of them. `__all__` has what users need; layers and
kernels use the functions beside it.
"""

# ruff: noqa: F401

from keras_attn.masks.algebra import And, Grid, Mask, Not, Or, Pattern, Span, check_pattern, combine
from keras_attn.masks.calls import (
    Explicit,
    KeyLength,
    Padding,
    Segments,
    explicit,
    first_not_none,
    hide,
    padding,
    real_positions,
    segments,
)
from keras_attn.masks.future import check_hides_the_future
from keras_attn.masks.patterns import Blocks, Causal, Dilated, Prefix, Where, Window

__all__ = [
    "Blocks",
    "Causal",
    "Dilated",
    "Explicit",
    "KeyLength",
    "Mask",
    "Padding",
    "Pattern",
    "Prefix",
    "Segments",
    "Where",
    "Window",
]
