"""Tools to train sequence models: a loss, metrics, schedules, checkpoints and their mean, word dropout."""

from keras_attn.training.attention_losses import CoverageLoss, GuidedAttentionLoss
from keras_attn.training.averaging import average_weights
from keras_attn.training.checkpoints import Checkpoints
from keras_attn.training.losses import MaskedCrossentropy
from keras_attn.training.metrics import EditDistance, Perplexity, SequenceAccuracy, TokenAccuracy
from keras_attn.training.schedules import InverseSquareRoot, LinearDecay, LinearWarmup
from keras_attn.training.text_scores import BleuScore, bleu
from keras_attn.training.word_dropout import WordDropout

__all__ = [
    "BleuScore",
    "Checkpoints",
    "CoverageLoss",
    "EditDistance",
    "GuidedAttentionLoss",
    "InverseSquareRoot",
    "LinearDecay",
    "LinearWarmup",
    "MaskedCrossentropy",
    "Perplexity",
    "SequenceAccuracy",
    "TokenAccuracy",
    "WordDropout",
    "average_weights",
    "bleu",
]
