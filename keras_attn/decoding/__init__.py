"""Generation: one loop over a model's steps, strategies that choose tokens, processors that change logits."""

from keras_attn.decoding.batched import generate_batches
from keras_attn.decoding.beam import Beam
from keras_attn.decoding.loop import generate
from keras_attn.decoding.processors import BannedTokens, MinLength, Processor, RepetitionPenalty
from keras_attn.decoding.protocol import DecodingModel, ModelFacts, facts_of
from keras_attn.decoding.strategies import Generated, Greedy, Sample, SearchContext, Strategy, TokenStrategy

__all__ = [
    "BannedTokens",
    "Beam",
    "DecodingModel",
    "Generated",
    "Greedy",
    "MinLength",
    "ModelFacts",
    "Processor",
    "RepetitionPenalty",
    "Sample",
    "SearchContext",
    "Strategy",
    "TokenStrategy",
    "facts_of",
    "generate",
    "generate_batches",
]
