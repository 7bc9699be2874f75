"""The Transformer's two blocks: sublayers wired into a residual stream."""

from keras_attn.blocks.decoder_block import DecoderBlock
from keras_attn.blocks.encoder_block import EncoderBlock

__all__ = ["DecoderBlock", "EncoderBlock"]
