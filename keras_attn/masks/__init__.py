"""Mask objects: which keys a query may attend to.

*Patterns* (`Causal`, `Window`, ...) are functions of the query's and the key's index. They are the
`mask` argument of a layer and are saved with it. *Call masks* (`Padding`, `Segments`, ...) contain
tensors of one call. All of them can be combined by `&`, `|` and `~`. `__all__` lists the names for
users; the others are for layers and kernels.
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
