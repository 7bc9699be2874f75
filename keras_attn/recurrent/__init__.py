"""Attention in recurrent decoders: the layers, their cells, scores and alignments."""

from keras_attn.recurrent.additive_rnn_attention import AdditiveRNNAttention
from keras_attn.recurrent.alignment import Alignment, SoftmaxAlignment
from keras_attn.recurrent.encoder import RecurrentEncoder
from keras_attn.recurrent.forward_alignment import ForwardAlignment
from keras_attn.recurrent.gaussian_mixture import GaussianMixture
from keras_attn.recurrent.history_scores import CoverageScore, HistoryScore, LocationSensitiveScore
from keras_attn.recurrent.local_window import LocalWindow, PredictedWindow
from keras_attn.recurrent.luong_rnn_attention import LuongRNNAttention
from keras_attn.recurrent.monotonic import Monotonic, MonotonicChunkwise
from keras_attn.recurrent.rnn_attention import RNNAttention
from keras_attn.recurrent.scores import AdditiveScore, DotScore, MultiplicativeScore, Score

__all__ = [
    "AdditiveRNNAttention",
    "AdditiveScore",
    "Alignment",
    "CoverageScore",
    "DotScore",
    "ForwardAlignment",
    "GaussianMixture",
    "HistoryScore",
    "LocalWindow",
    "LocationSensitiveScore",
    "LuongRNNAttention",
    "Monotonic",
    "MonotonicChunkwise",
    "MultiplicativeScore",
    "PredictedWindow",
    "RNNAttention",
    "RecurrentEncoder",
    "Score",
    "SoftmaxAlignment",
]
