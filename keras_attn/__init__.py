"""Attention layers for Keras: recurrent and Transformer, exact for every mask, ready to serve.

The packages `data`, `plot`, `serving` and `text` need TensorFlow, so they are imported when they are
first used. The layers also run without TensorFlow, on JAX and PyTorch.
"""

import importlib
from types import ModuleType

from keras_attn import config, convert, decoding, kernels, masks, models, training
from keras_attn.attention import (
    AttentionPooling,
    DotProduct,
    EncoderDecoderAttention,
    MultiHeadSelfAttention,
    attention_maps,
    cache,
)
from keras_attn.base.special_ids import SpecialIds
from keras_attn.layers.norms import LayerNorm, NoNorm, RMSNorm
from keras_attn.masks import Causal, Window
from keras_attn.positions import (
    Alibi,
    Learned,
    LinearScaling,
    Llama3Scaling,
    NTKScaling,
    RelativeBias,
    Rotary,
    Sinusoidal,
    YarnScaling,
)
from keras_attn.recurrent import (
    AdditiveRNNAttention,
    AdditiveScore,
    CoverageScore,
    DotScore,
    ForwardAlignment,
    GaussianMixture,
    LocalWindow,
    LocationSensitiveScore,
    LuongRNNAttention,
    Monotonic,
    MonotonicChunkwise,
    MultiplicativeScore,
    PredictedWindow,
    RecurrentEncoder,
    RNNAttention,
    SoftmaxAlignment,
)
from keras_attn.transformer import (
    Decoder,
    DecoderBlock,
    Encoder,
    EncoderBlock,
    FeedForward,
    GatedFeedForward,
    InnerNorm,
    PostNorm,
    PreNorm,
    SandwichNorm,
)

__version__ = "0.1.0"

__all__ = [
    "AdditiveRNNAttention",
    "AdditiveScore",
    "Alibi",
    "AttentionPooling",
    "Causal",
    "CoverageScore",
    "Decoder",
    "DecoderBlock",
    "DotProduct",
    "DotScore",
    "Encoder",
    "EncoderBlock",
    "EncoderDecoderAttention",
    "FeedForward",
    "ForwardAlignment",
    "GatedFeedForward",
    "GaussianMixture",
    "InnerNorm",
    "LayerNorm",
    "Learned",
    "LinearScaling",
    "Llama3Scaling",
    "LocalWindow",
    "LocationSensitiveScore",
    "LuongRNNAttention",
    "Monotonic",
    "MonotonicChunkwise",
    "MultiHeadSelfAttention",
    "MultiplicativeScore",
    "NTKScaling",
    "NoNorm",
    "PostNorm",
    "PreNorm",
    "PredictedWindow",
    "RMSNorm",
    "RNNAttention",
    "RecurrentEncoder",
    "RelativeBias",
    "Rotary",
    "SandwichNorm",
    "Sinusoidal",
    "SoftmaxAlignment",
    "SpecialIds",
    "Window",
    "YarnScaling",
    "attention_maps",
    "cache",
    "config",
    "convert",
    "decoding",
    "kernels",
    "masks",
    "models",
    "training",
]


def __getattr__(name: str) -> ModuleType:
    if name in ("data", "plot", "pretrained", "serving", "text"):
        return importlib.import_module(f"keras_attn.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
