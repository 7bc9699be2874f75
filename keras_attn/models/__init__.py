"""Recipes: functions that compose the layers into functional Keras models over ids."""

from keras_attn.models import heads, pooling
from keras_attn.models.causal_transformer import CausalTransformer
from keras_attn.models.embeddings import Embeddings
from keras_attn.models.language_head import LanguageHead
from keras_attn.models.rnn_seq2seq import RNNSeq2Seq
from keras_attn.models.text_encoder import TextEncoder
from keras_attn.models.transformer import Transformer

__all__ = [
    "CausalTransformer",
    "Embeddings",
    "LanguageHead",
    "RNNSeq2Seq",
    "TextEncoder",
    "Transformer",
    "heads",
    "pooling",
]
