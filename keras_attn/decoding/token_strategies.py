"""The strategies that choose the most probable token, or a sampled one."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from keras import ops

from keras_attn.backend import block_uniform, random_seed
from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import register
from keras_attn.base.types import Tensor
from keras_attn.decoding.context import NOTHING, SearchContext
from keras_attn.decoding.processors import Processor, check_processors
from keras_attn.decoding.strategies import TokenStrategy


@register
class Greedy(TokenStrategy):
    """Chooses the most probable token.

    Args:
        processors: Processors that change the logits before.

    Example:
    >>> from keras_attn.decoding import Greedy, NoRepeatNGrams
    >>> strategy = Greedy(processors=[NoRepeatNGrams(3)])
    """

    def __init__(self, processors: Sequence[Processor] = ()) -> None:
        self.processors = check_processors(processors)

    def pick(self, log_probs: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        return ops.cast(ops.argmax(log_probs, axis=-1), "int32")


@register
class Sample(TokenStrategy):
    """Samples a token from the model's distribution, with temperature and truncation.

    `p_v ~ exp(log_prob_v / temperature)` over the tokens that top_k, top_p and min_p keep.

    Args:
        temperature: Greater than 0; less than 1 sharpens the distribution.
        top_k: Keeps the k most probable tokens; None for all.
        top_p: Keeps the smallest number of most probable tokens whose probabilities sum to at least
            `top_p`, in (0, 1] (nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751).
        min_p: Keeps tokens with at least this fraction of the highest probability, in [0, 1]
            (Nguyen et al. 2024, arXiv:2407.01082).
        seed: Integer; the same seed gives the same texts. None draws a new seed at each call.
        num_samples: Number N of texts sampled for each row; the most probable one is returned first.
        processors: Processors that change the logits before.

    Scores are those of the model's distribution, after processors and before temperature and truncation.

    Raises:
        ValueError: For numbers out of range.

    Example:
    >>> from keras_attn.decoding import Sample
    >>> strategy = Sample(temperature=0.8, top_p=0.9, seed=7)
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
        num_samples: int = 1,
        processors: Sequence[Processor] = (),
    ) -> None:
        check_number("temperature", temperature, above=0)
        check_number("top_k", top_k, int, optional=True, at_least=1)
        check_number("top_p", top_p, must="be in (0, 1]", above=0, at_most=1)
        check_number("min_p", min_p, must="be in [0, 1]", at_least=0, at_most=1)
        check_number("seed", seed, int, optional=True)
        check_positive("num_samples", num_samples)
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.min_p = min_p
        self.seed = seed
        self.num_samples = num_samples
        self.processors = check_processors(processors)

    @property
    def num_beams(self) -> int:  # type: ignore[override]  # a class attribute of other strategies
        return self.num_samples

    @property
    def draws(self) -> bool:  # type: ignore[override]
        return self.seed is None

    def draw_seed(self) -> Tensor:
        if self.seed is None:
            return random_seed()
        return ops.convert_to_tensor([self.seed % 2**32, 0], dtype="uint32")

    def without_seed(self) -> Sample:
        unseeded = copy.copy(self)
        unseeded.seed = None
        return unseeded

    def pick(self, log_probs: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        temperature = self.temperature if context.temperature is None else context.temperature[:, None]
        uniform = block_uniform(ops.shape(log_probs), context.seed, index, 0)
        # The argmax of logits plus Gumbel noise is a sample from their softmax (Gumbel 1954).
        noise = -ops.log(-ops.log(uniform))
        if context.temperature is None:
            return ops.cast(ops.argmax(self.cut(log_probs / temperature) + noise, axis=-1), "int32")
        warm = temperature > 0  # False for NaN too
        heated = log_probs / ops.where(warm, temperature, 1.0)
        # Minus infinity divided by an infinite temperature is NaN.
        drawn = self.cut(ops.where(log_probs > NOTHING, heated, NOTHING)) + noise
        return ops.cast(ops.argmax(ops.where(warm, drawn, log_probs), axis=-1), "int32")

    def cut(self, logits: Tensor) -> Tensor:
        """Returns the logits `[B, V]`, with minus infinity for tokens that must not be sampled."""
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = ops.top_k(logits, self.top_k)[0][:, -1:]
            logits = ops.where(logits < least, float("-inf"), logits)
        if self.top_p < 1:
            falling = ops.flip(ops.sort(logits, axis=-1), axis=-1)
            probabilities = ops.softmax(falling, axis=-1)
            before = (
                ops.cumsum(probabilities, axis=-1, dtype="float32") - probabilities
            )  # probability of all more probable tokens
            least = ops.min(ops.where(before < self.top_p, falling, float("inf")), axis=-1, keepdims=True)
            logits = ops.where(logits < least, float("-inf"), logits)
        if self.min_p > 0:
            least = ops.max(logits, axis=-1, keepdims=True) + math.log(self.min_p)
            logits = ops.where(logits < least, float("-inf"), logits)
        return logits
