"""What strategies and processors know about the search: sizes, end ids, limits, prompts."""

from __future__ import annotations

import dataclasses

from keras import ops

from keras_attn.base.types import Tensor

NOTHING = float("-inf")  # the log probability of a forbidden token
ABSENT = -1  # where a prompt has no id


@dataclasses.dataclass(frozen=True)
class SearchContext:
    """The properties of a search that strategies and processors read.

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
        prompts: The ids that the model read before the first token: prompts, right-aligned, with -1 before
            them, int32 `[B, P]`, or the start id `[B, 1]`. None if no processor needs them.
    """

    batch_size: int | Tensor
    max_length: int
    end_ids: tuple[int, ...]
    limits: Tensor
    temperature: Tensor | None = None
    seed: Tensor | None = None
    source_mask: Tensor | None = None
    padding_id: int = 0
    prompts: Tensor | None = None

    @property
    def end_id(self) -> int:
        """The token that ends a text, the first of several; padding if no token does."""
        return self.end_ids[0] if self.end_ids else self.padding_id

    @property
    def prompt_lengths(self) -> Tensor:
        """The number of ids of each prompt, int32 `[B]`; 1 for a start id."""
        present = ops.cast(ops.not_equal(self.prompts, ABSENT), "int32")
        return ops.cast(ops.sum(present, axis=1), "int32")

    def with_prompts(self, tokens: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns texts with their prompts before them.

        Args:
            tokens: Tokens of each text so far, int32 `[B, L]`, followed by padding.
            index: Number of tokens so far, an int32 scalar.

        Returns:
            The ids `[B, P + L]`, -1 where there is none; and the position of the next token, an int32 scalar.
        """
        written = ops.arange(ops.shape(tokens)[1], dtype="int32") < index
        ids = ops.concatenate([self.prompts, ops.where(written, tokens, ABSENT)], axis=1)
        return ids, ops.convert_to_tensor(ops.shape(self.prompts)[1], "int32") + index

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
        rows = {name: getattr(self, name) for name in ("limits", "temperature", "source_mask", "prompts")}
        rows = {name: None if tensor is None else ops.repeat(tensor, number, axis=0) for name, tensor in rows.items()}
        return dataclasses.replace(self, batch_size=self.batch_size * number, **rows)
