"""Attention layers for Keras: recurrent and Transformer, exact in every mask, ready to serve."""

from keras_attn import config, convert, kernels, masks, models
from keras_attn.blocks import DecoderBlock, EncoderBlock
from keras_attn.feed_forward import FeedForward, GatedFeedForward
from keras_attn.masks import Causal, Window
from keras_attn.multi_head import EncoderDecoderAttention, MultiHeadSelfAttention
from keras_attn.positions import Learned, Rotary, Sinusoidal
from keras_attn.recurrent import AdditiveRNNAttention, RNNAttention
from keras_attn.residual import InnerNorm, LayerNorm, PostNorm, PreNorm, RMSNorm
from keras_attn.scores import AdditiveScore, MultiplicativeScore
from keras_attn.stacks import Decoder, Encoder

__version__ = "0.1.0"

__all__ = [
    "AdditiveRNNAttention",
    "AdditiveScore",
    "Causal",
    "Decoder",
    "DecoderBlock",
    "Encoder",
    "EncoderBlock",
    "EncoderDecoderAttention",
    "FeedForward",
    "GatedFeedForward",
    "InnerNorm",
    "LayerNorm",
    "Learned",
    "MultiHeadSelfAttention",
    "MultiplicativeScore",
    "PostNorm",
    "PreNorm",
    "RMSNorm",
    "RNNAttention",
    "Rotary",
    "Sinusoidal",
    "Window",
    "config",
    "convert",
    "kernels",
    "masks",
    "models",
]
