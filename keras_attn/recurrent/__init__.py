"""Attention in recurrent decoders: the layers, the cells they run and the scores they use."""

from keras_attn.recurrent.additive_rnn_attention import AdditiveRNNAttention
from keras_attn.recurrent.encoder import RecurrentEncoder
from keras_attn.recurrent.rnn_attention import RNNAttention
from keras_attn.recurrent.scores import AdditiveScore, MultiplicativeScore, Score

__all__ = [
    "AdditiveRNNAttention",
    "AdditiveScore",
    "MultiplicativeScore",
    "RNNAttention",
    "RecurrentEncoder",
    "Score",
]
