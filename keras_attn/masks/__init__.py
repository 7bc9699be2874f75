"""Mask objects: which keys a query may see.

*Patterns* (`Causal`, `Window`, ...) are functions of the query's and the key's index; they
fill a layer's `mask=` slot and are saved with it. *Call masks* (`Padding`, `Segments`, ...)
hold tensors of one call. `&`, `|` and `~` combine any of them. `__all__` lists what users need; the other
names are for layers and kernels.
"""

# ruff: noqa: F401

from keras_attn.masks.algebra import And, Coverage, Grid, Mask, Not, Or, Pattern, Rectangle, check_pattern, combine
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
from keras_attn.masks.patterns import Blocks, Causal, Dilated, Global, Prefix, Where, Window

__all__ = [
    "Blocks",
    "Causal",
    "Dilated",
    "Explicit",
    "Global",
    "KeyLength",
    "Mask",
    "Padding",
    "Pattern",
    "Prefix",
    "Segments",
    "Where",
    "Window",
]
