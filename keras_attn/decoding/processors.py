"""Processors, which change the model's logits before a token is chosen; any number of them are applied in order."""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from keras_attn.base.checks import check_number, check_positive, is_number
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Tensor


class Processor(Slot):
    """Changes logits. Write your own by subclassing."""

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        """Returns new logits `[R, V]`; minus infinity forbids a token.

        Args:
            logits: `[R, V]` in float32, where R is the number of rows, or of all beams of all rows.
            tokens: Tokens of each text so far, int32 `[R, L]`, followed by padding.
            index: Number of tokens so far, an int32 scalar.
            end_ids: The tokens that end a text.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `__call__`.")


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
        if not isinstance(ids, (list, tuple)) or not all(is_number(i, int, at_least=0) for i in ids):
            raise ValueError(f"`ids` must be a list of ids. Received: ids={short_repr(ids)}.")
        self.ids = list(ids)

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        num_tokens = logits.shape[-1]
        if max(self.ids, default=0) >= num_tokens:
            raise ValueError(f"`ids` must be less than the {num_tokens} ids of the model. Received: ids={self.ids}.")
        banned = [v in self.ids for v in range(num_tokens)]
        return ops.where(ops.convert_to_tensor(banned, dtype="bool"), float("-inf"), logits)


@register
class MinLength(Processor):
    """Forbids the end ids until a text has `length` tokens.

    Args:
        length: Minimum number of tokens, without the end id.
    """

    def __init__(self, length: int) -> None:
        check_positive("length", length)
        self.length = length

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        ends = ops.convert_to_tensor([v in end_ids for v in range(logits.shape[-1])], dtype="bool")
        return ops.where(ops.logical_and(ends, index < self.length), float("-inf"), logits)


@register
class RepetitionPenalty(Processor):
    """Makes tokens that a text already contains less probable (Keskar et al. 2019, arXiv:1909.05858).

    Positive logits of these tokens are divided by the penalty, negative ones are multiplied by it.

    Args:
        penalty: At least 1; 1 changes nothing.
    """

    def __init__(self, penalty: float) -> None:
        check_number("penalty", penalty, at_least=1)
        self.penalty = penalty

    def __call__(self, logits: Tensor, tokens: Tensor, index: Tensor, end_ids: tuple[int, ...]) -> Tensor:
        (rows, length), num_tokens = ops.shape(tokens), logits.shape[-1]
        written = ops.broadcast_to(ops.cast(ops.arange(length, dtype="int32") < index, "float32"), (rows, length))
        # Indices into the flattened plane [R, V].
        places = ops.arange(rows, dtype="int32")[:, None] * num_tokens + ops.cast(tokens, "int32")
        counts = ops.segment_sum(ops.reshape(written, (-1,)), ops.reshape(places, (-1,)), rows * num_tokens)
        had = ops.reshape(counts, (rows, num_tokens)) > 0
        return ops.where(had, ops.where(logits > 0, logits / self.penalty, logits * self.penalty), logits)
