"""The Transformer: feed-forward layers, residual connections, and the blocks and stacks of encoder and decoder."""

from keras_attn.transformer.decoder_block import DecoderBlock
from keras_attn.transformer.encoder_block import EncoderBlock
from keras_attn.transformer.feed_forward import FeedForward, GatedFeedForward
from keras_attn.transformer.residual import InnerNorm, PostNorm, PreNorm, Residual, SandwichNorm
from keras_attn.transformer.stacks import Decoder, Encoder

__all__ = [
    "Decoder",
    "DecoderBlock",
    "Encoder",
    "EncoderBlock",
    "FeedForward",
    "GatedFeedForward",
    "InnerNorm",
    "PostNorm",
    "PreNorm",
    "Residual",
    "SandwichNorm",
]
