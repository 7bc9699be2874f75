"""One line per public layer; every conformance test runs on each.

Sizes are distinct primes (but for the model size, a multiple of the heads), so that swapped
axes fail.
"""

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np

import keras_attn as ka
from keras_attn.models import pooling
from keras_attn.recurrent.cells import recurrent_initializer

SIZES = {"B": 3, "T": 5, "S": 7, "D": 22, "M": 13, "H": 2}


@dataclasses.dataclass(frozen=True)
class Case:
    """A public layer and how to call it.

    Attributes:
        make: Makes the layer; takes `dtype`.
        axes: Axes of its tensor arguments, the first ones sequences that may be padded.
        scores: Axes of its scores, or empty.
        causal: Whether outputs may depend on earlier inputs only.
        mixing: Whether positions see each other at all.
        outputs: Axes of its outputs where they are no sequence; no mask goes out then.
    """

    name: str
    make: Callable[..., keras.Layer]
    axes: Mapping[str, str]
    scores: str = ""
    causal: bool = False
    mixing: bool = True
    outputs: str = ""

    def arguments(self, rng, dtype="float32", **sizes):
        """Random tensor arguments."""
        sizes = {**SIZES, **sizes}
        return {
            name: rng.normal(size=[sizes[letter] for letter in letters]).astype(dtype)
            for name, letters in self.axes.items()
        }

    def padding(self, rng, **sizes):
        """Random padding masks for the arguments: two positions or more of each row are real, not all."""
        sizes = {**SIZES, **sizes}
        masks = {}
        for name, letters in self.axes.items():
            batch, length = (sizes[letter] for letter in letters[:2])
            lengths = rng.integers(2, length, size=batch)
            masks[f"{name}_mask"] = np.arange(length) < lengths[:, None]
        return masks

    def model(self, layer, dtype=None, scores=False):
        """A functional model around the layer, free in batch and lengths, with mask inputs."""
        inputs, masks = {}, {}
        for name, letters in self.axes.items():
            inputs[name] = keras.Input((None, SIZES[letters[2]]), dtype=dtype, name=name)
            masks[f"{name}_mask"] = keras.Input((None,), dtype="bool", name=f"{name}_mask")
        extra = {"return_attention_scores": True} if scores else {}
        return keras.Model({**inputs, **masks}, layer(**inputs, **masks, **extra))


SELF = {"inputs": "BTD"}
CROSS = {"query": "BTD", "memory": "BSM"}
DECODER = {"inputs": "BTD", "memory": "BSM"}


def lstm_cell(units, dtype=None):
    return keras.layers.LSTMCell(units, recurrent_initializer=recurrent_initializer(dtype), dtype=dtype)


def stacked_cells(dtype=None):
    gru = keras.layers.GRUCell(3, recurrent_initializer=recurrent_initializer(dtype), dtype=dtype)
    return keras.layers.StackedRNNCells([lstm_cell(5, dtype), gru], dtype=dtype)


def bidirectional(dtype=None):
    # Not orthogonal, which Keras cannot make in bfloat16.
    lstm = keras.layers.LSTM(5, return_sequences=True, recurrent_initializer="glorot_uniform", dtype=dtype)
    return keras.layers.Bidirectional(lstm, dtype=dtype)


CASES = [
    Case("FeedForward", lambda **k: ka.FeedForward(17, **k), SELF, mixing=False, causal=True),
    Case("GatedFeedForward", lambda **k: ka.GatedFeedForward(17, **k), SELF, mixing=False, causal=True),
    Case("Sinusoidal", lambda **k: ka.Sinusoidal(**k), SELF, mixing=False, causal=True),
    Case("Sinusoidal-halves", lambda **k: ka.Sinusoidal(interleaved=False, **k), SELF, mixing=False, causal=True),
    Case("Learned", lambda **k: ka.Learned(11, **k), SELF, mixing=False, causal=True),
    Case("Learned-offset", lambda **k: ka.Learned(11, offset=2, **k), SELF, mixing=False, causal=True),
    Case("MultiHeadSelfAttention", lambda **k: ka.MultiHeadSelfAttention(2, **k), SELF, "BHTT"),
    Case(
        "MultiHeadSelfAttention-causal-rotary-multiquery",
        lambda **k: ka.MultiHeadSelfAttention(
            2, head_size=6, num_kv_heads=1, mask=ka.Causal() & ka.Window(3), position=ka.Rotary(), **k
        ),
        SELF,
        "BHTT",
        causal=True,
    ),
    Case(
        "MultiHeadSelfAttention-blockwise",
        lambda **k: ka.MultiHeadSelfAttention(2, mask=ka.Window(3, 1), kernel="blockwise", **k),
        SELF,
        "BHTT",
        causal=True,
    ),
    Case(
        "MultiHeadSelfAttention-relative-blockwise",
        lambda **k: ka.MultiHeadSelfAttention(
            2,
            position=ka.RelativeBias(8, 4, **k),
            score=ka.DotProduct(norm=ka.RMSNorm(), softcap=3.0, sinks="zeros"),
            kernel="blockwise",
            **k,
        ),
        SELF,
        "BHTT",
    ),
    Case("EncoderDecoderAttention", lambda **k: ka.EncoderDecoderAttention(2, **k), CROSS, "BHTS"),
    Case(
        "EncoderDecoderAttention-normed",
        lambda **k: ka.EncoderDecoderAttention(2, score=ka.DotProduct(norm=ka.LayerNorm(), sinks="ones"), **k),
        CROSS,
        "BHTS",
    ),
    Case(
        "MultiHeadSelfAttention-scale-bias",
        lambda **k: ka.MultiHeadSelfAttention(
            2, 6, mask=ka.Causal(), score=ka.DotProduct(scale=1.0), use_bias=["in_projection"], **k
        ),
        SELF,
        "BHTT",
        causal=True,
    ),
    Case("AttentionPooling", lambda **k: ka.AttentionPooling(5, **k), {"inputs": "BSM"}, "BS", outputs="BM"),
    Case(
        "AttentionPooling-hops",
        lambda **k: ka.AttentionPooling(num_hops=2, penalty=0.1, **k),
        {"inputs": "BSM"},
        "BHS",
        outputs="BHM",
    ),
    Case("Pooling", lambda **k: pooling.Pooling(pooling.WeightedMean(), **k), {"inputs": "BSM"}, outputs="BM"),
    Case("EncoderBlock", lambda **k: ka.EncoderBlock(2, 17, **k), SELF, "BHTT"),
    Case(
        "EncoderBlock-causal-inner",
        lambda **k: ka.EncoderBlock(2, 17, mask=ka.Causal(), residual=ka.InnerNorm(ka.RMSNorm()), **k),
        SELF,
        "BHTT",
        causal=True,
    ),
    Case(
        "EncoderBlock-sandwich",
        lambda **k: ka.EncoderBlock(2, 17, mask=ka.Causal(), residual=ka.SandwichNorm(ka.RMSNorm()), **k),
        SELF,
        "BHTT",
        causal=True,
    ),
    Case(
        "EncoderBlock-norms",
        lambda **k: ka.EncoderBlock(2, 17, residual=ka.PreNorm([ka.NoNorm(), ka.LayerNorm(center=False)]), **k),
        SELF,
        "BHTT",
    ),
    Case("EncoderBlock-alibi", lambda **k: ka.EncoderBlock(2, 17, position=ka.Alibi(), **k), SELF, "BHTT"),
    Case("DecoderBlock", lambda **k: ka.DecoderBlock(2, 17, **k), DECODER, "BHTS", causal=True),
    Case("Encoder", lambda **k: ka.Encoder(2, ka.EncoderBlock(2, 17, residual=ka.PreNorm(), **k), **k), SELF, "BNHTT"),
    Case(
        "Encoder-relative",
        lambda **k: ka.Encoder(2, ka.EncoderBlock(2, 17, position=ka.RelativeBias(8, 4, **k), **k), **k),
        SELF,
        "BNHTT",
    ),
    Case(
        "Encoder-shared-relative",
        lambda **k: ka.Encoder(2, ka.EncoderBlock(2, 17, **k), position=ka.RelativeBias(8, 4, **k), **k),
        SELF,
        "BNHTT",
    ),
    Case(
        "Decoder-shared-relative",
        lambda **k: ka.Decoder(
            2,
            ka.DecoderBlock(2, 17, residual=ka.PreNorm(ka.RMSNorm()), **k),
            position=ka.RelativeBias(8, 5, bidirectional=False, **k),
            **k,
        ),
        DECODER,
        "BNHTS",
        causal=True,
    ),
    Case("Decoder", lambda **k: ka.Decoder(2, ka.DecoderBlock(2, 17, **k), **k), DECODER, "BNHTS", causal=True),
    Case("RecurrentEncoder", lambda **k: ka.RecurrentEncoder(bidirectional(**k), **k), SELF),
    Case("AdditiveRNNAttention", lambda **k: ka.AdditiveRNNAttention(5, 3, **k), DECODER, "BTS", causal=True),
    Case(
        "RNNAttention",
        lambda **k: ka.RNNAttention(stacked_cells(**k), ka.MultiplicativeScore(**k), dropout=0.1, **k),
        DECODER,
        "BTS",
        causal=True,
    ),
    Case(
        "RNNAttention-location-monotonic",
        lambda **k: ka.RNNAttention(
            lstm_cell(5, **k),
            ka.LocationSensitiveScore(3, 3, cumulative=True, **k),
            alignment=ka.Monotonic(offset=0.5, **k),
            **k,
        ),
        DECODER,
        "BTS",
        causal=True,
    ),
    Case(
        "AdditiveRNNAttention-coverage-chunkwise",
        lambda **k: ka.AdditiveRNNAttention(
            5, score=ka.CoverageScore(**k), alignment=ka.MonotonicChunkwise(2, offset=0.5, **k), **k
        ),
        DECODER,
        "BTS",
        causal=True,
    ),
    Case(
        "AdditiveRNNAttention-mixture",
        lambda **k: ka.AdditiveRNNAttention(5, alignment=ka.GaussianMixture(2, **k), **k),
        DECODER,
        "BTS",
        causal=True,
    ),
    Case("LuongRNNAttention", lambda **k: ka.LuongRNNAttention(5, dropout=0.1, **k), DECODER, "BTS", causal=True),
    Case(
        "LuongRNNAttention-dot-forward",
        lambda **k: ka.LuongRNNAttention(
            13, score=ka.DotScore(use_scale=True, **k), alignment=ka.ForwardAlignment(**k), **k
        ),
        DECODER,
        "BTS",
        causal=True,
    ),
    Case(
        "LuongRNNAttention-window",
        lambda **k: ka.LuongRNNAttention(
            5, score=ka.AdditiveScore(normalize=True, **k), alignment=ka.LocalWindow(2, **k), **k
        ),
        DECODER,
        "BTS",
        causal=True,
    ),
    Case(
        "LuongRNNAttention-predicted-window",
        lambda **k: ka.LuongRNNAttention(5, alignment=ka.PredictedWindow(2, **k), **k),
        DECODER,
        "BTS",
        causal=True,
    ),
]

# Layers that only work inside another one's slot, and the case that has them.
SLOT_LAYERS = {
    "AdditiveScore": "AdditiveRNNAttention",
    "CoverageScore": "AdditiveRNNAttention-coverage-chunkwise",
    "DotScore": "LuongRNNAttention-dot-forward",
    "ForwardAlignment": "LuongRNNAttention-dot-forward",
    "GaussianMixture": "AdditiveRNNAttention-mixture",
    "LocalWindow": "LuongRNNAttention-window",
    "LocationSensitiveScore": "RNNAttention-location-monotonic",
    "Monotonic": "RNNAttention-location-monotonic",
    "MonotonicChunkwise": "AdditiveRNNAttention-coverage-chunkwise",
    "MultiplicativeScore": "RNNAttention",
    "PredictedWindow": "LuongRNNAttention-predicted-window",
    "SoftmaxAlignment": "AdditiveRNNAttention",
    "RelativeBias": "Encoder-relative",
}
