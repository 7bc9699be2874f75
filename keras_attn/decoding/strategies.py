"""Strategies that choose the next token of each text on its own: the most probable token, or a sampled one."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import NamedTuple

from keras import ops

from keras_attn.backend import block_uniform, random_seed
from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import Slot, register
from keras_attn.base.types import Tensor

NOTHING = float("-inf")  # the log probability of a forbidden token


class Generated(NamedTuple):
    """What generation returns: the N texts of each row, the best first.

    Attributes:
        tokens: Ids `[B, N, L]` without the start id, with the end id, and padding after it.
        lengths: `[B, N]`, including the end id.
        scores: `[B, N]`, sums of log probabilities, divided by the length penalty if there is one.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor


@dataclasses.dataclass(frozen=True)
class SearchContext:
    """The properties of a search that a strategy reads.

    Attributes:
        batch_size: Number of rows B.
        max_length: Number L of token positions of the search. A compiled search may have more positions
            than the caller's `max_length`; `limits` is the maximum of each row.
        end_ids: The tokens that end a text.
        limits: Maximum number of tokens of each row, int32 `[B]`, at most L.
        temperature: Temperature of each row, float32 `[B]`, or None for the strategy's own.
        seed: Integers `[2]`, or None for a strategy that does not sample.
        source_mask: Boolean `[B, S]`, True for real source positions, or None if it is not known.
        padding_id: The id after the end of a text.
    """

    batch_size: int | Tensor
    max_length: int
    end_ids: tuple[int, ...]
    limits: Tensor
    temperature: Tensor | None = None
    seed: Tensor | None = None
    source_mask: Tensor | None = None
    padding_id: int = 0

    @property
    def end_id(self) -> int:
        """The token that ends a text, the first of several; padding if no token does."""
        return self.end_ids[0] if self.end_ids else self.padding_id

    def is_full(self, length: Tensor) -> Tensor:
        """Returns which rows have reached their maximum length after `length` tokens, booleans `[B]`."""
        return length >= self.limits

    def is_end(self, tokens: Tensor) -> Tensor:
        """Returns which tokens end a text, booleans of the same shape."""
        ends = ops.zeros(ops.shape(tokens), "bool")
        for end_id in self.end_ids:
            ends = ops.logical_or(ends, ops.equal(tokens, end_id))
        return ends

    def repeated(self, number: int) -> SearchContext:
        """Returns the context of a search in which each row is repeated `number` times."""
        if number == 1:
            return self
        rows = {name: getattr(self, name) for name in ("limits", "temperature", "source_mask")}
        rows = {name: None if tensor is None else ops.repeat(tensor, number, axis=0) for name, tensor in rows.items()}
        return dataclasses.replace(self, batch_size=self.batch_size * number, **rows)


Search = dict[str, Tensor]
"""The tensors that a strategy keeps during a search, by name."""


class Strategy(Slot):
    """Chooses tokens from log probabilities, and keeps its tensors in a search, a dictionary.

    The loop reads two entries of it: `"done"`, boolean `[B]`, and `"tokens"`, the tokens of each text
    so far, int32 `[B, L]`, or `[B, W, L]` for W beams.

    Attributes:
        num_beams: Number W of texts of each row that are decoded together.
        reads_attention: Whether `advance` needs the attention over the source.
        draws: Whether the same search may return other texts the next time.
        temperature: Divides the log probabilities before a token is sampled.
    """

    num_beams: int = 1
    reads_attention: bool = False
    draws: bool = False
    temperature: float = 1.0

    def draw_seed(self) -> Tensor | None:
        """Returns the seed of one search, integers `[2]`; None for a strategy that does not sample."""
        return None

    def without_seed(self) -> Strategy:
        """Returns the strategy without its seed, which each `SearchContext` has: one compiled search for all seeds."""
        return self

    def start(self, context: SearchContext) -> Search:
        """Returns the tensors of the search before the first token."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `start(context)`.")

    def advance(
        self, log_probs: Tensor, search: Search, index: Tensor, context: SearchContext, attention: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Search]:
        """Chooses the tokens of one position.

        Args:
            log_probs: `[B W, V]` in float32, minus infinity for tokens that must not be chosen.
            search: From `start` or the previous position.
            index: The position, an int32 scalar.
            context: The `SearchContext`.
            attention: Scores over the source, `[B W, S]`, if the strategy `reads_attention`.

        Returns:
            Tokens int32 `[B W]`; the beam that each of them continues, `[B W]`, as a row of the
            model's state, or None if each continues its own beam; the new search.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `advance`.")

    def finish(self, search: Search, context: SearchContext) -> Generated:
        """Returns the `Generated` texts."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `finish(search, context)`.")


class TokenStrategy(Strategy):
    """Decodes one text per row, or several independent ones; a subclass chooses the next token of each.

    If `pick` returns a token with log probability minus infinity, the most probable token is used instead. A
    text for which all tokens are forbidden ends, with the score minus infinity.
    """

    def pick(self, log_probs: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        """Returns the next tokens int32 `[R]` for log probabilities `[R, V]` of the R texts of all rows."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `pick(log_probs, index, context)`.")

    def start(self, context: SearchContext) -> Search:
        num_texts = context.batch_size * self.num_beams
        return {
            "tokens": ops.full((num_texts, context.max_length), context.padding_id, "int32"),
            "lengths": ops.zeros((num_texts,), "int32"),
            "scores": ops.zeros((num_texts,), "float32"),
            "done": ops.zeros((num_texts,), "bool"),
        }

    def advance(
        self, log_probs: Tensor, search: Search, index: Tensor, context: SearchContext, attention: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Search]:
        context, done = context.repeated(self.num_beams), search["done"]
        picked = ops.cast(self.pick(log_probs, index, context), "int32")
        likeliest = ops.cast(ops.argmax(log_probs, axis=-1), "int32")
        picked = ops.where(gain(log_probs, picked) > NOTHING, picked, likeliest)
        gained = gain(log_probs, picked)
        stuck = ops.equal(gained, NOTHING)
        picked = ops.where(stuck, context.end_id, picked)
        picked = ops.where(done, context.padding_id, picked)
        search = {
            "tokens": put(search["tokens"], picked, index),
            "lengths": search["lengths"] + ops.cast(ops.logical_not(done), "int32"),
            "scores": search["scores"] + ops.where(done, 0.0, gained),
            "done": done | stuck | context.is_end(picked) | context.is_full(index + 1),
        }
        return picked, None, search

    def finish(self, search: Search, context: SearchContext) -> Generated:
        texts = (search[name] for name in Generated._fields)
        shape = (-1, self.num_beams)
        found = Generated(*(ops.reshape(tensor, (*shape, *ops.shape(tensor)[1:])) for tensor in texts))
        if self.num_beams == 1:
            return found
        scores, places = ops.top_k(found.scores, self.num_beams)  # the best first
        lengths = ops.take_along_axis(found.lengths, places, axis=1)
        return Generated(ops.take_along_axis(found.tokens, places[..., None], axis=1), lengths, scores)


@register
class Greedy(TokenStrategy):
    """Chooses the most probable token.

    Example:
    >>> from keras_attn.decoding import Greedy
    >>> strategy = Greedy()
    """

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

    Scores are those of the model's distribution, before temperature and truncation.

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


def gain(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Returns the log probabilities `[B]` of one token per row."""
    return ops.take_along_axis(log_probs, tokens[:, None], axis=-1)[:, 0]


def put(tokens: Tensor, values: Tensor, index: Tensor) -> Tensor:
    """Returns tokens `[..., L]` with `values` `[...]` at the position `index`."""
    here = ops.equal(ops.arange(ops.shape(tokens)[-1], dtype="int32"), index)
    return ops.where(here, values[..., None], tokens)
