"""Positions: added to embeddings, applied to queries and keys as rotations, or added to scores."""

from keras_attn.positions.added import Learned, NoPosition, Sinusoidal
from keras_attn.positions.angles import row_positions
from keras_attn.positions.heads import HeadPosition
from keras_attn.positions.relative import Alibi, RelativeBias
from keras_attn.positions.rotary import Rotary
from keras_attn.positions.scaling import LinearScaling, Llama3Scaling, NTKScaling, Scaling, YarnScaling

__all__ = [
    "Alibi",
    "HeadPosition",
    "Learned",
    "LinearScaling",
    "Llama3Scaling",
    "NTKScaling",
    "NoPosition",
    "RelativeBias",
    "Rotary",
    "Scaling",
    "Sinusoidal",
    "YarnScaling",
    "row_positions",
]
