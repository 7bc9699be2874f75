"""Processors, which change the model's logits before a token is chosen; any number of them are applied in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_attn.base.checks import check_number, is_number
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Tensor
from keras_attn.decoding.context import ABSENT, NOTHING, SearchContext


class Processor(Slot):
    """Changes logits. Write your own by subclassing: define `__call__`, or `apply` to read prompts and limits.

    Under `Beam`, processors change log probabilities instead, and these are not normalised again.
    """

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        """Returns new logits `[R, V]`; minus infinity forbids a token.

        Args:
            logits: `[R, V]` in float32, where R is the number of rows, or of all beams of all rows.
            tokens: Tokens of each text so far, int32 `[R, L]`, followed by padding.
            index: Number of tokens so far, an int32 scalar.
            end_ids: The tokens that end a text.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `__call__` or `apply`.")

    def apply(self, logits: Tensor, tokens: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        """Returns new logits `[R, V]`. The loop calls this method; by default it is `__call__`.

        Args:
            logits, tokens, index: As for `__call__`.
            context: The `SearchContext` of the R texts.
        """
        return self(logits, tokens, index, context.end_ids)

    def limits(self, context: SearchContext) -> Tensor:
        """Returns the maximum number of tokens of each row, int32 `[B]`; by default `context.limits`."""
        return context.limits


def check_processors(processors: Sequence[Processor]) -> tuple[Processor, ...]:
    """Returns processors as a tuple; raises a `ValueError` for other objects."""
    if not isinstance(processors, (list, tuple)):
        raise ValueError(f"`processors` must be a list of Processors. Received: processors={short_repr(processors)}.")
    if not all(isinstance(processor, Processor) for processor in processors):
        received = [processor.__class__.__name__ for processor in processors]
        raise ValueError(f"`processors` must be Processors of keras_attn. Received objects of types {received}.")
    return tuple(processors)


@register
class BannedTokens(Processor):
    """Forbids tokens.

    Args:
        ids: Ids of the tokens.

    Example:
    >>> from keras_attn.decoding import BannedTokens
    >>> no_unknown = BannedTokens([3])
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = check_ids("ids", ids)

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        return ban(logits, among(self.ids, logits))


@register
class BannedFirstTokens(Processor):
    """Forbids tokens at one position, by default the first one of each text.

    Args:
        ids: Ids of the tokens.
        index: The position; 0 is that of the first token.

    Example:
    >>> from keras_attn.decoding import BannedFirstTokens
    >>> never_empty = BannedFirstTokens([2])
    """

    def __init__(self, ids: Sequence[int], index: int = 0) -> None:
        check_number("index", index, int, at_least=0)
        self.ids = check_ids("ids", ids)
        self.index = index

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        return ban(logits, ops.logical_and(among(self.ids, logits), ops.equal(index, self.index)))


@register
class RepetitionPenalty(Processor):
    """Makes tokens that a text or its prompt already contains less probable (Keskar et al. 2019, arXiv:1909.05858).

    Positive logits of these tokens are divided by the penalty, negative ones are multiplied by it.

    Args:
        penalty: Greater than 0; 1 changes nothing, and less than 1 makes the tokens more probable.

    Example:
    >>> from keras_attn.decoding import Greedy, RepetitionPenalty
    >>> strategy = Greedy(processors=[RepetitionPenalty(1.2)])
    """

    def __init__(self, penalty: float) -> None:
        check_number("penalty", penalty, above=0)
        self.penalty = penalty

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        return self._penalized(logits, tokens, ops.arange(ops.shape(tokens)[1], dtype="int32")[None] < index)

    def apply(self, logits: Tensor, tokens: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        ids, _ = context.with_prompts(tokens, index)
        return self._penalized(logits, ids, ops.not_equal(ids, ABSENT))

    def _penalized(self, logits: Tensor, ids: Tensor, counted: Tensor) -> Tensor:
        """Returns the new logits, for ids `[R, X]`, and booleans of the same shape, or `[1, X]`: which ids count."""
        had = occurring(ids, counted, logits)
        return ops.where(had, ops.where(logits > 0, logits / self.penalty, logits * self.penalty), logits)


@register
class Renormalize(Processor):
    """Makes the probabilities sum to 1 again, as the last of several processors under `Beam`.

    Example:
    >>> from keras_attn.decoding import BannedTokens, Beam, Renormalize
    >>> strategy = Beam(4, processors=[BannedTokens([3]), Renormalize()])
    """

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        return log_softmax(logits)


def log_softmax(logits: Tensor) -> Tensor:
    """Returns log probabilities `[R, V]`, minus infinity and not NaN where all logits are minus infinity."""
    return ops.where(ops.equal(logits, NOTHING), NOTHING, ops.log_softmax(logits, axis=-1))


def check_ids(name: str, ids: Sequence[int]) -> list[int]:
    """Returns ids as a list; raises a `ValueError` for anything else."""
    if not isinstance(ids, (list, tuple)) or not all(is_number(each, int, at_least=0) for each in ids):
        raise ValueError(f"`{name}` must be a list of ids. Received: {name}={short_repr(ids)}.")
    return list(ids)


def ban(logits: Tensor, banned: Tensor) -> Tensor:
    """Returns logits with minus infinity for the tokens where the booleans `banned` are True."""
    return ops.where(banned, NOTHING, logits)


def check_below(name: str, ids: int | Sequence[int], logits: Tensor) -> None:
    """Raises a `ValueError` for an id, or ids, that the logits `[R, V]` do not have."""
    if np.max(ids, initial=0) >= logits.shape[-1]:
        raise ValueError(f"`{name}` must be less than the {logits.shape[-1]} ids of the model. Received: {name}={ids}.")


def among(ids: Sequence[int], logits: Tensor) -> Tensor:
    """Returns booleans `[V]`, True for the ids; raises a `ValueError` for ids that the logits `[R, V]` do not have."""
    check_below("ids", ids, logits)
    return ops.convert_to_tensor(np.isin(np.arange(logits.shape[-1]), [*ids]), dtype="bool")


def occurring(ids: Tensor, counted: Tensor, logits: Tensor) -> Tensor:
    """Returns which tokens occur among ids, booleans `[R, V]`.

    Args:
        ids: int32 `[R, X]`.
        counted: Booleans `[R, X]`, False for ids that do not count.
        logits: `[R, V]`.
    """
    ids, rows, num_tokens = ops.cast(ids, "int32"), ops.shape(ids)[0], logits.shape[-1]
    counted = ops.logical_and(counted, ops.logical_and(ids >= 0, ids < num_tokens))
    # Indices into the flattened plane [R, V].
    places = ops.arange(rows, dtype="int32")[:, None] * num_tokens + ops.where(counted, ids, 0)
    counts = ops.cast(counted, "float32")
    counts = ops.segment_sum(ops.reshape(counts, (-1,)), ops.reshape(places, (-1,)), rows * num_tokens)
    return ops.reshape(counts, (rows, num_tokens)) > 0
