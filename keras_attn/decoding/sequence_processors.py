"""Processors that forbid sequences of tokens: repeated n-grams, and given sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_attn.base.checks import check_positive
from keras_attn.base.slot import register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Tensor
from keras_attn.decoding.context import ABSENT, SearchContext
from keras_attn.decoding.processors import Processor, among, ban, check_below, check_ids, occurring


@register
class NoRepeatNGrams(Processor):
    """Forbids tokens that would complete a sequence of n ids that the text or its prompt already contains.

    Args:
        size: The number n of ids of a sequence.

    Example:
    >>> from keras_attn.decoding import Beam, NoRepeatNGrams
    >>> strategy = Beam(width=4, processors=[NoRepeatNGrams(3)])

    References:
        Paulus et al. 2017, A Deep Reinforced Model for Abstractive Summarization, arXiv:1705.04304.
    """

    def __init__(self, size: int) -> None:
        check_positive("size", size)
        self.size = size

    def apply(self, logits: Tensor, tokens: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        ids, end = context.with_prompts(tokens, index)  # [R, X]
        before = self.size - 1
        padded = ops.pad(ids, [[0, 0], [before, 0]], constant_values=ABSENT)
        completed = ops.not_equal(ids, ABSENT)  # where the id at a position completes the sequence
        for back in range(1, self.size):
            last = ops.take(padded, end + (before - back), axis=1)  # [R]
            completed = ops.logical_and(completed, ops.equal(padded[:, before - back : -back], last[:, None]))
        return ban(logits, occurring(ids, completed, logits))


@register
class BannedSequences(Processor):
    """Forbids sequences of tokens: the last token of each, where the others stand before it.

    Args:
        sequences: Lists of ids.

    Example:
    >>> from keras_attn.decoding import BannedSequences, Greedy
    >>> strategy = Greedy(processors=[BannedSequences([[7], [5, 6]])])
    """

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        lists = isinstance(sequences, (list, tuple)) and all(isinstance(each, (list, tuple)) for each in sequences)
        if not lists or not all(sequences):
            raise ValueError(
                f"`sequences` must be a list of lists of ids, none empty. Received: sequences={short_repr(sequences)}."
            )
        self.sequences = [check_ids("sequences", sequence) for sequence in sequences]

    def apply(self, logits: Tensor, tokens: Tensor, index: Tensor, context: SearchContext) -> Tensor:
        for sequence in self.sequences:
            check_below("sequences", sequence, logits)
        banned = among([sequence[0] for sequence in self.sequences if len(sequence) == 1], logits)
        longest = max(map(len, self.sequences), default=1) - 1
        ids, end = context.with_prompts(tokens, index)
        padded = ops.pad(ids, [[0, 0], [longest, 0]], constant_values=ABSENT)
        for number in range(1, longest + 1):
            group = [sequence for sequence in self.sequences if len(sequence) == number + 1]
            if not group:
                continue
            table = ops.convert_to_tensor(np.array(group), "int32")  # [N, number + 1]
            places = end + ops.arange(longest - number, longest, dtype="int32")
            last = ops.take(padded, places, axis=1)  # [R, number]
            matched = ops.all(ops.equal(last[:, None], table[:, :-1]), axis=-1)  # [R, N]
            completing = ops.broadcast_to(table[:, -1], ops.shape(matched))
            banned = ops.logical_or(banned, occurring(completing, matched, logits))
        return ban(logits, banned)
