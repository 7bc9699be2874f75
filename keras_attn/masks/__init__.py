"""Mask objects: which key a query may see.

*Patterns* (`Causal`, `Window`, ...) are functions of the query's and the key's index; they
fill a layer's `mask=` slot and are saved with it. *Call masks* (`Padding`, `Segments`, ...)
hold tensors of one call. `&`, `|` and `~` join any of them.
"""

from keras_attn.masks.algebra import And, Grid, Mask, Not, Or, Pattern, Span, check_pattern, combine
from keras_attn.masks.calls import (
    Explicit,
    KeyLength,
    Padding,
    Segments,
    explicit,
    first_given,
    hide,
    padding,
    real_positions,
    segments,
)
from keras_attn.masks.future import check_hides_the_future
from keras_attn.masks.patterns import Blocks, Causal, Dilated, Prefix, Where, Window

__all__ = [
    "And",
    "Blocks",
    "Causal",
    "Dilated",
    "Explicit",
    "Grid",
    "KeyLength",
    "Mask",
    "Not",
    "Or",
    "Padding",
    "Pattern",
    "Prefix",
    "Segments",
    "Span",
    "Where",
    "Window",
    "check_hides_the_future",
    "check_pattern",
    "combine",
    "explicit",
    "first_given",
    "hide",
    "padding",
    "real_positions",
    "segments",
]
