"""What a strategy is, and the base class of those that choose the next token of each text on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from keras import ops

from keras_attn.base.slot import Slot
from keras_attn.base.types import Tensor
from keras_attn.decoding.context import NOTHING, SearchContext
from keras_attn.decoding.processors import Processor


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
        processors: Processors of this strategy; those of `generate` are applied after them.
        processes_log_probs: Whether processors change log probabilities, which are not normalised again, instead
            of logits.
    """

    num_beams: int = 1
    reads_attention: bool = False
    draws: bool = False
    temperature: float = 1.0
    processors: Sequence[Processor] = ()
    processes_log_probs: bool = False

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


def gain(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Returns the log probabilities `[B]` of one token per row."""
    return ops.take_along_axis(log_probs, tokens[:, None], axis=-1)[:, 0]


def put(tokens: Tensor, values: Tensor, index: Tensor) -> Tensor:
    """Returns tokens `[..., L]` with `values` `[...]` at the position `index`."""
    here = ops.equal(ops.arange(ops.shape(tokens)[-1], dtype="int32"), index)
    return ops.where(here, values[..., None], tokens)
