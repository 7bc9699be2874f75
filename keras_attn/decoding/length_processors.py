"""Processors of the beginning and the end of a text: minimum and maximum lengths, forced first and last tokens."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import register
from keras_attn.base.types import Tensor
from keras_attn.decoding.context import NOTHING, SearchContext
from keras_attn.decoding.processors import Processor, ban, check_below


@register
class MinLength(Processor):
    """Forbids the end ids until a text has `length` tokens.

    Args:
        length: Minimum number of tokens, without the end id.

    Example:
    >>> from keras_attn.decoding import Greedy, MinLength
    >>> strategy = Greedy(processors=[MinLength(5)])
    """

    def __init__(self, length: int) -> None:
        check_positive("length", length)
        self.length = length

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        return ban_ends(logits, end_ids, index < self.length)


@register
class MinTotalLength(Processor):
    """Forbids the end ids until a text and its prompt (or the start id) have `length` ids.

    Args:
        length: Minimum number of ids, without the end id.

    Example:
    >>> from keras_attn.decoding import Greedy, MinTotalLength
    >>> strategy = Greedy(processors=[MinTotalLength(10)])
    """

    def __init__(self, length: int) -> None:
        check_positive("length", length)
        self.length = length

    def apply(self, logits: Tensor, tokens: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        short = context.prompt_lengths + index < self.length
        return ban_ends(logits, context.end_ids, short[:, None])


@register
class MaxTotalLength(Processor):
    """Ends each text when it and its prompt (or the start id) have `length` ids, after one token at the earliest.

    Args:
        length: Maximum number of ids.

    Example:
    >>> from keras_attn.decoding import Greedy, MaxTotalLength
    >>> strategy = Greedy(processors=[MaxTotalLength(1024)])
    """

    def __init__(self, length: int) -> None:
        check_number("length", length, int, at_least=2)
        self.length = length

    def apply(self, logits: Tensor, tokens: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        return logits

    def limits(self, context: SearchContext) -> Tensor:
        return ops.minimum(context.limits, self.length - context.prompt_lengths)


@register
class ForcedFirstToken(Processor):
    """Makes one token the first one of each text; its log probability is 0.

    Args:
        id: The token, for example the language of a translation.

    Example:
    >>> from keras_attn.decoding import Beam, ForcedFirstToken
    >>> strategy = Beam(width=4, processors=[ForcedFirstToken(7)])
    """

    def __init__(self, id: int) -> None:
        check_number("id", id, int, at_least=0)
        self.id = id

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        return ops.where(ops.equal(index, 0), only(self.id, logits), logits)


@register
class ForcedLastToken(Processor):
    """Makes one token the last one of each text that reaches its maximum length; its log probability is 0.

    Args:
        id: The token, usually the end id.

    Example:
    >>> from keras_attn.decoding import Beam, ForcedLastToken
    >>> strategy = Beam(width=4, processors=[ForcedLastToken(2)])
    """

    def __init__(self, id: int) -> None:
        check_number("id", id, int, at_least=0)
        self.id = id

    def apply(self, logits: Tensor, tokens: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        return ops.where(context.is_full(index + 1)[:, None], only(self.id, logits), logits)


def only(token: int, logits: Tensor) -> Tensor:
    """Returns logits `[V]` of 0 for a token and minus infinity for all others of the logits `[R, V]`."""
    check_below("id", token, logits)
    return ops.convert_to_tensor(np.where(np.arange(logits.shape[-1]) == token, 0.0, NOTHING), "float32")


def ban_ends(logits: Tensor, end_ids: tuple[int, ...], short: Tensor) -> Tensor:
    """Returns logits `[R, V]` without the end ids where a text is `short`, booleans that broadcast to `[R, 1]`."""
    ends = ops.convert_to_tensor([v in end_ids for v in range(logits.shape[-1])], dtype="bool")
    return ban(logits, ops.logical_and(ends, short))
