"""Stop rules of beam search: when the search of a row ends although some of its texts are unfinished."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from keras_attn.base.slot import Slot, register
from keras_attn.base.types import Tensor
from keras_attn.decoding.context import NOTHING
from keras_attn.decoding.length_penalties import LengthPenalty


class Progress(NamedTuple):
    """How far the search of each row is, after a step.

    Attributes:
        unfinished: Highest log probability of the unfinished texts, float32 `[B]`.
        finished: Scores of the finished texts, the best first, float32 `[B, W]`; minus infinity for no text.
        num_returned: Number N of texts that the search returns, at most W.
        length: Number of tokens of the unfinished texts, an int32 scalar.
        limits: Maximum number of tokens of each row, int32 `[B]`.
        penalty: The length penalty.
    """

    unfinished: Tensor
    finished: Tensor
    num_returned: int
    length: Tensor
    limits: Tensor
    penalty: LengthPenalty

    def best_score(self, shortest: Tensor) -> Tensor:
        """Returns the highest score `[B]` that an unfinished text may still get with `shortest` tokens or more."""
        most_favourable = self.limits if self.penalty.exponent > 0 else ops.minimum(shortest, self.limits)
        return self.unfinished / self.penalty(most_favourable)

    def has_width(self) -> Tensor:
        """Returns which rows have W finished texts and have not reached their maximum length, booleans `[B]`.

        At the maximum length, unfinished texts count as finished, and are compared with the others.
        """
        return ops.logical_and(self.finished[:, -1] > NOTHING, self.length < self.limits)


class StopRule(Slot):
    """Says when the search of a row stops; unfinished texts are then dropped."""

    def is_done(self, progress: Progress) -> Tensor:
        """Returns booleans `[B]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `is_done(progress)`.")


@register
class ExactStop(StopRule):
    """Stops as soon as no unfinished text can overtake the N returned ones.

    Log probabilities only decrease, a coverage penalty is at most 0, and a length penalty is most favourable at the
    next or at the maximum length.

    Example:
    >>> from keras_attn.decoding import Beam, ExactStop
    >>> strategy = Beam(4, stop=ExactStop())
    """

    def is_done(self, progress: Progress) -> Tensor:
        return progress.finished[:, progress.num_returned - 1] >= progress.best_score(progress.length + 1)


@register
class WidthStop(StopRule):
    """Stops as soon as W texts are finished: transformers' `early_stopping=True`.

    Example:
    >>> from keras_attn.decoding import Beam, WidthStop
    >>> strategy = Beam(4, stop=WidthStop())
    """

    def is_done(self, progress: Progress) -> Tensor:
        return progress.has_width()


@register
class CurrentScoreStop(StopRule):
    """Stops when W texts are finished and no unfinished one has a higher score now: `early_stopping=False`.

    The score now is that with the length penalty of the current length. With an exponent greater than 0, a
    text that is dropped might have overtaken the finished ones later.

    Example:
    >>> from keras_attn.decoding import Beam, CurrentScoreStop, PowerPenalty
    >>> strategy = Beam(4, length_penalty=PowerPenalty(1.0), stop=CurrentScoreStop())
    """

    def is_done(self, progress: Progress) -> Tensor:
        scores = progress.unfinished / progress.penalty(progress.length)
        return ops.logical_and(progress.has_width(), scores <= progress.finished[:, -1])


@register
class BestScoreStop(StopRule):
    """Stops when W texts are finished and no unfinished one can get a higher score: `early_stopping="never"`.

    Unlike `ExactStop`, it waits for W finished texts, also if fewer are returned.

    Example:
    >>> from keras_attn.decoding import BestScoreStop, Beam, PowerPenalty
    >>> strategy = Beam(4, length_penalty=PowerPenalty(1.0), stop=BestScoreStop())
    """

    def is_done(self, progress: Progress) -> Tensor:
        scores = progress.best_score(progress.length)
        return ops.logical_and(progress.has_width(), scores <= progress.finished[:, -1])
