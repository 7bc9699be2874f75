"""Generation: one loop over a model's steps, strategies that choose tokens, processors that change logits."""

from keras_attn.decoding.batched import generate_batches
from keras_attn.decoding.beam import Beam
from keras_attn.decoding.context import SearchContext
from keras_attn.decoding.length_penalties import GNMTPenalty, LengthPenalty, PowerPenalty
from keras_attn.decoding.length_processors import (
    ForcedFirstToken,
    ForcedLastToken,
    MaxTotalLength,
    MinLength,
    MinTotalLength,
)
from keras_attn.decoding.loop import generate
from keras_attn.decoding.processors import (
    BannedFirstTokens,
    BannedTokens,
    Processor,
    Renormalize,
    RepetitionPenalty,
)
from keras_attn.decoding.protocol import DecodingModel, ModelFacts, facts_of
from keras_attn.decoding.sequence_processors import BannedSequences, NoRepeatNGrams
from keras_attn.decoding.stopping import BestScoreStop, CurrentScoreStop, ExactStop, Progress, StopRule, WidthStop
from keras_attn.decoding.strategies import Generated, Strategy, TokenStrategy
from keras_attn.decoding.token_strategies import Greedy, Sample

__all__ = [
    "BannedFirstTokens",
    "BannedSequences",
    "BannedTokens",
    "Beam",
    "BestScoreStop",
    "CurrentScoreStop",
    "DecodingModel",
    "ExactStop",
    "ForcedFirstToken",
    "ForcedLastToken",
    "GNMTPenalty",
    "Generated",
    "Greedy",
    "LengthPenalty",
    "MaxTotalLength",
    "MinLength",
    "MinTotalLength",
    "ModelFacts",
    "NoRepeatNGrams",
    "PowerPenalty",
    "Processor",
    "Progress",
    "Renormalize",
    "RepetitionPenalty",
    "Sample",
    "SearchContext",
    "StopRule",
    "Strategy",
    "TokenStrategy",
    "WidthStop",
    "facts_of",
    "generate",
    "generate_batches",
]
