"""Generation: one loop over a model's steps, strategies that choose tokens, processors that change logits."""

from keras_attn.decoding.batched import generate_batches
from keras_attn.decoding.beam import Beam
from keras_attn.decoding.loop import generate, search
from keras_attn.decoding.processors import BannedTokens, MinLength, Processor, RepetitionPenalty
from keras_attn.decoding.request import Request
from keras_attn.decoding.strategies import Generated, Greedy, Picking, Problem, Sample, Strategy

__all__ = [
    "BannedTokens",
    "Beam",
    "Generated",
    "Greedy",
    "MinLength",
    "Picking",
    "Problem",
    "Processor",
    "RepetitionPenalty",
    "Request",
    "Sample",
    "Strategy",
    "generate",
    "generate_batches",
    "search",
]
