"""Beam search: extends the W most probable texts of each row together, and freezes the finished ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras import ops

from keras_attn.base.checks import check_number, check_positive, check_slot
from keras_attn.base.slot import register
from keras_attn.base.tensors import lift
from keras_attn.base.types import Tensor
from keras_attn.decoding.context import NOTHING, SearchContext
from keras_attn.decoding.length_penalties import GNMTPenalty, LengthPenalty
from keras_attn.decoding.processors import Processor, check_processors
from keras_attn.decoding.stopping import ExactStop, Progress, StopRule
from keras_attn.decoding.strategies import Generated, Search, Strategy, put

LEAST_COVERAGE = 1e-30  # of a source position without any attention: the logarithm stays finite


@register
class Beam(Strategy):
    """Extends the `width` most probable unfinished texts of a row, and keeps the best finished ones separately.

    A finished text is frozen and keeps its score:
    `score = log P(Y|X) / lp(Y) + cp(X; Y)`, `lp(Y) = ((5 + |Y|) / 6)^length_penalty`,
    `cp = coverage_penalty * sum_s log(min(sum_t a_ts, 1))`, where |Y| includes the end id.
    A text is finished if its end id is among the `width` best continuations of the row. The
    search of a row stops by the rule `stop`: by default as soon as no unfinished text can overtake
    the returned ones. Texts that are unfinished at the maximum length are scored as they are. A
    `width` of 1 is greedy search. If a row has fewer than N possible texts, the remaining entries
    have length 0, padding, and the score minus infinity.

    Args:
        width: Number W of unfinished texts per row.
        length_penalty: The exponent of the formula above, which is `GNMTPenalty(exponent)`, or another
            `LengthPenalty`, for example `PowerPenalty(1.0)`; 0 for none.
        coverage_penalty: Factor of the coverage penalty; 0 for none. Requires a model whose
            `step(..., return_attention_scores=True)` returns the attention over the source.
        num_return_sequences: Number N of texts returned, at most `width`.
        patience: Stops a row also as soon as `patience * width` texts are finished, even if others
            could overtake them (Kasai et al. 2022, arXiv:2204.05424); None for the rule `stop` alone.
        stop: The rule when a row stops: `ExactStop()` by default, or for example `WidthStop()`.
        processors: Processors of the log probabilities; those of `generate` follow. A token that they forbid has
            no effect on the log probabilities of the others, and a token that they force has 0.

    Raises:
        ValueError: For numbers out of range, and objects of other types.

    Example:
    >>> from keras_attn.decoding import Beam, CurrentScoreStop, PowerPenalty
    >>> strategy = Beam(width=4, length_penalty=0.6)
    >>> of_transformers = Beam(width=4, length_penalty=PowerPenalty(1.0), stop=CurrentScoreStop())

    References:
        Wu et al. 2016, Google's Neural Machine Translation System, arXiv:1609.08144, section 7.
    """

    processes_log_probs = True

    def __init__(
        self,
        width: int = 4,
        length_penalty: float | LengthPenalty = 0.0,
        coverage_penalty: float = 0.0,
        num_return_sequences: int = 1,
        patience: float | None = None,
        stop: StopRule | None = None,
        processors: Sequence[Processor] = (),
    ) -> None:
        check_positive("width", width)
        check_positive("num_return_sequences", num_return_sequences)
        if num_return_sequences > width:
            raise ValueError(
                "`num_return_sequences` must be at most `width`. "
                f"Received: num_return_sequences={num_return_sequences}, width={width}."
            )
        if not isinstance(length_penalty, LengthPenalty):
            check_number("length_penalty", length_penalty, must="be a number or a LengthPenalty")
        check_number("coverage_penalty", coverage_penalty, must="not be negative", at_least=0)
        check_number("patience", patience, optional=True)
        if patience is not None and not patience * width >= num_return_sequences:
            raise ValueError(
                "`patience` times `width` must be at least `num_return_sequences`. "
                f"Received: patience={patience!r}, width={width}, num_return_sequences={num_return_sequences}."
            )
        self.width = width
        self.length_penalty = length_penalty
        self.coverage_penalty = coverage_penalty
        self.num_return_sequences = num_return_sequences
        self.patience = patience
        self.stop = check_slot("stop", stop, StopRule)
        self.processors = check_processors(processors)

    @property
    def penalty(self) -> LengthPenalty:
        """The length penalty as an object."""
        length_penalty = self.length_penalty
        return length_penalty if isinstance(length_penalty, LengthPenalty) else GNMTPenalty(length_penalty)

    @property
    def num_beams(self) -> int:  # type: ignore[override]  # a class attribute of other strategies
        return self.width

    @property
    def reads_attention(self) -> bool:  # type: ignore[override]
        return self.coverage_penalty > 0

    def start(self, context: SearchContext) -> Search:
        rows, shape = context.batch_size, (context.batch_size, self.width)
        nothing = ops.full(shape, NOTHING, "float32")
        search = {
            "tokens": ops.full((*shape, context.max_length), context.padding_id, "int32"),
            # All beams are equal at first, so only the first one counts.
            "log_probs": ops.where(
                ops.equal(ops.arange(self.width, dtype="int32"), 0), ops.zeros(shape, "float32"), nothing
            ),
            "ended_tokens": ops.full((*shape, context.max_length), context.padding_id, "int32"),
            "ended_lengths": ops.zeros(shape, "int32"),
            "ended_scores": nothing,
            "num_ended": ops.zeros((rows,), "int32"),
            "cannot_improve": ops.zeros((rows,), "bool"),
            "done": ops.zeros((rows,), "bool"),
        }
        if self.reads_attention:
            search["coverage"] = ops.zeros((*shape, ops.shape(context.source_mask)[1]), "float32")
        return search

    def advance(
        self, log_probs: Tensor, search: Search, index: Tensor, context: SearchContext, attention: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Search]:
        done, num_tokens = search["done"], log_probs.shape[-1]
        rows, coverage = ops.shape(done)[0], search.get("coverage")
        if coverage is not None:
            coverage = coverage + ops.reshape(ops.cast(attention, "float32"), ops.shape(coverage))
        totals = search["log_probs"][..., None] + ops.reshape(log_probs, (rows, self.width, num_tokens))
        # Enough continuations that at least `width` of them do not end: each beam may continue with every end id.
        number = min((1 + len(context.end_ids)) * self.width, self.width * num_tokens)
        best, places = ops.top_k(ops.reshape(totals, (rows, self.width * num_tokens)), number)
        places = ops.cast(places, "int32")
        parents, tokens = places // num_tokens, places % num_tokens  # [B, X]
        texts = put(along(search["tokens"], parents), tokens, index)  # [B, X, L]
        covered = None if coverage is None else along(coverage, parents)
        ends = context.is_end(tokens)

        among_best = ops.arange(ops.shape(best)[1], dtype="int32") < self.width
        ended = ops.logical_and(ops.logical_and(ends, among_best), best > NOTHING)
        scores = ops.where(ended, self._scores(best, index + 1, covered, context), NOTHING)
        frozen = self._join(search, texts, index + 1, scores, context)
        num_ended = search["num_ended"] + ops.cast(ops.sum(ops.cast(ended, "int32"), axis=-1), "int32")

        log_probs, survivors = ops.top_k(ops.where(ends, NOTHING, best), self.width)  # [B, W]
        new = {"tokens": along(texts, survivors), "log_probs": log_probs, **frozen, "num_ended": num_ended}
        if covered is not None:
            new["coverage"] = along(covered, survivors)
        # A row that is done does not change.
        new = {name: ops.where(lift(done, tensor), search[name], tensor) for name, tensor in new.items()}
        new["cannot_improve"] = search["cannot_improve"] | (~done & self._cannot_improve(new, index + 1, context))
        new["done"] = new["cannot_improve"] | context.is_full(index + 1)
        tokens = ops.where(done[:, None], context.padding_id, ops.take_along_axis(tokens, survivors, axis=-1))
        parents = (
            ops.take_along_axis(parents, survivors, axis=-1) + ops.arange(rows, dtype="int32")[:, None] * self.width
        )
        return ops.reshape(tokens, (-1,)), ops.reshape(parents, (-1,)), new

    def finish(self, search: Search, context: SearchContext) -> Generated:
        length = context.limits[:, None]
        scores = self._scores(search["log_probs"], length, search.get("coverage"), context)
        scores = ops.where(search["cannot_improve"][:, None], NOTHING, scores)  # else unfinished at the maximum length
        found = self._join(search, search["tokens"], length, scores, context)
        return Generated(*(found[f"ended_{name}"][:, : self.num_return_sequences] for name in Generated._fields))

    def _join(self, search: Search, texts: Tensor, length: Tensor, scores: Tensor, context: SearchContext) -> Search:
        """Returns the best W of the frozen texts and of other `texts` `[B, X, L]`, which all have the same length."""
        lengths = ops.ones_like(scores, dtype="int32") * length
        joined = {"ended_tokens": texts, "ended_lengths": lengths, "ended_scores": scores}
        joined = {name: ops.concatenate([search[name], tensor], axis=1) for name, tensor in joined.items()}
        scores, places = ops.top_k(joined["ended_scores"], self.width)
        found = {name: along(tensor, places) for name, tensor in joined.items()}
        real = scores > NOTHING  # False where there is no text
        return {
            "ended_tokens": ops.where(real[..., None], found["ended_tokens"], context.padding_id),
            "ended_lengths": ops.where(real, found["ended_lengths"], 0),
            "ended_scores": scores,
        }

    def _scores(self, log_probs: Tensor, length: Tensor, coverage: Tensor | None, context: SearchContext) -> Tensor:
        """Returns the scores `[B, X]` of texts that all have the same length."""
        scores = log_probs / self.penalty(length)
        if coverage is None:
            return scores
        covered = ops.log(ops.clip(coverage, LEAST_COVERAGE, 1.0))  # [B, X, S]
        if context.source_mask is not None:
            covered = ops.where(context.source_mask[:, None], covered, 0.0)
        return scores + self.coverage_penalty * ops.sum(covered, axis=-1)

    def _cannot_improve(self, search: Search, length: Tensor, context: SearchContext) -> Tensor:
        """Returns booleans `[B]`: the stop rule holds, enough texts are finished, or no text can be continued."""
        best, finished = ops.max(search["log_probs"], axis=-1), search["ended_scores"]
        progress = Progress(best, finished, self.num_return_sequences, length, context.limits, self.penalty)
        done = ops.logical_or((self.stop or ExactStop()).is_done(progress), ops.equal(best, NOTHING))
        enough = 1 if self.width == 1 else self.patience and math.ceil(self.patience * self.width)
        return ops.logical_or(done, search["num_ended"] >= enough) if enough else done


def along(tensor: Tensor, places: Tensor) -> Tensor:
    """Returns the entries `[B, Y, ...]` of a tensor `[B, X, ...]` at the indices `places` `[B, Y]`."""
    places = ops.reshape(places, (*ops.shape(places), *(1,) * (len(tensor.shape) - 2)))
    return ops.take_along_axis(tensor, places, axis=1)
