"""Multi-head attention: the two layers, their score and the cache of their keys and values; attention pooling."""

from keras_attn.attention import cache
from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.encoder_decoder_attention import EncoderDecoderAttention
from keras_attn.attention.maps import attention_maps
from keras_attn.attention.pooling import AttentionPooling
from keras_attn.attention.self_attention import MultiHeadSelfAttention

__all__ = [
    "AttentionPooling",
    "DotProduct",
    "EncoderDecoderAttention",
    "MultiHeadSelfAttention",
    "attention_maps",
    "cache",
]
