"""The arguments of generation, checked and converted to tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import cast

from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes, check_number, check_positive, check_slot
from keras_attn.base.tensors import is_array, static_shape, to_tensor
from keras_attn.base.types import ArrayLike, Tensor
from keras_attn.decoding.processors import Processor, check_processors
from keras_attn.decoding.protocol import ModelFacts
from keras_attn.decoding.strategies import Strategy
from keras_attn.decoding.token_strategies import Greedy

AUTO = "auto"  # the end ids of the model


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """The arguments of `generate` that are the same for all batches."""

    strategy: Strategy
    max_length: int
    start_id: int
    end_ids: tuple[int, ...]
    processors: tuple[Processor, ...] = ()
    cache: Cache | None = None
    padding_id: int | None = 0

    def __post_init__(self) -> None:
        for name in ("strategy", "max_length", "cache"):
            check_no_tensor(name, getattr(self, name))
        if not isinstance(self.strategy, Strategy):
            raise ValueError(f"`strategy` must be a Strategy of keras_attn. Received: strategy={self.strategy!r}.")
        check_positive("max_length", self.max_length)
        check_slot("cache", self.cache, Cache)
        check_processors(self.processors)
        for name, value in self._ids():
            check_no_tensor(name, value)
            check_number(name, value, int, must="be an id, and must not be negative", at_least=0)

    def _ids(self) -> list[tuple[str, int]]:
        """Returns the start id and the end ids, each with the name of its argument."""
        return [("start_id", self.start_id), *(("end_id", end_id) for end_id in self.end_ids)]

    @property
    def all_processors(self) -> tuple[Processor, ...]:
        """The processors of the strategy, and those of the call."""
        return *self.strategy.processors, *self.processors

    @property
    def forbidden_ids(self) -> set[int]:
        """The ids that are never chosen: padding and the start id, except for those that end a text."""
        return {each for each in (self.padding_id, self.start_id) if each is not None} - {*self.end_ids}

    @property
    def filler(self) -> int:
        """The id after the end of a text: padding, or 0 for a vocabulary without padding."""
        return 0 if self.padding_id is None else self.padding_id

    @property
    def free(self) -> int:
        """The id that forces no token in a prefix: padding, or -1 for a vocabulary without padding."""
        return -1 if self.padding_id is None else self.padding_id

    def prefix(self, prefix_ids: ArrayLike | None, num_rows: int | None) -> Tensor | None:
        """Returns the prefix as int32 `[B or 1, P]`, or None; `num_rows` is B, or None if it is not known."""
        if prefix_ids is None:
            return None
        prefix = to_tensor("prefix_ids", prefix_ids, "int32")
        prefix = prefix[None] if len(prefix.shape) == 1 else prefix
        fits = len(prefix.shape) == 2 and (prefix.shape[1] or 0) <= self.max_length
        if not fits or (prefix.shape[0] not in (1, None, num_rows) and num_rows is not None):
            raise ValueError(
                f"`prefix_ids` must be [B, P] or [P] with B={num_rows} and P at most max_length={self.max_length}. "
                f"Received: prefix_ids.shape={static_shape(prefix)}."
            )
        return prefix

    def check_vocabulary(self, num_tokens: int, prefix: Tensor | None) -> None:
        """Raises a `ValueError` for ids outside the vocabulary, which has `num_tokens` ids."""
        for name, value in self._ids():
            if value >= num_tokens:
                raise ValueError(
                    f"`{name}` must be less than the {num_tokens} ids of the model. Received: {name}={value}."
                )
        if prefix is not None and is_concrete(prefix) and prefix.shape[1]:
            ids = ops.convert_to_numpy(prefix)
            if ids.max(initial=0) >= num_tokens or ids.min(initial=0) < 0:
                raise ValueError(
                    f"`prefix_ids` must be less than the {num_tokens} ids of the model, and not negative. "
                    f"Received: ids from {ids.min(initial=0)} up to {ids.max(initial=0)}."
                )


def config_of(
    facts: ModelFacts,
    strategy: Strategy | None,
    max_length: int,
    start_id: int | None = None,
    end_id: int | Sequence[int] | str | None = AUTO,
    processors: Iterable[Processor] = (),
    cache: Cache | None = None,
) -> GenerationConfig:
    """Returns `generate`'s arguments as a `GenerationConfig`; missing ids are those of the model's `facts`."""
    check_no_tensor("end_id", end_id)
    return GenerationConfig(
        Greedy() if strategy is None else strategy,
        max_length,
        facts.special_ids.start if start_id is None else start_id,
        facts.special_ids.end_ids if end_id == AUTO else end_ids_of(end_id),
        tuple(processors),
        cache,
        facts.special_ids.padding,
    )


def source_lengths_of(source_lengths: ArrayLike | None, source: Tensor) -> Tensor | None:
    """Returns the numbers of real ids of each row of a source `[B, S]` as int32 `[B]`, checked; None for None."""
    if source_lengths is None:
        return None
    lengths = to_tensor("source_lengths", source_lengths, "int32")
    check_axes({"source": "BS", "source_lengths": "B"}, {"source": source, "source_lengths": lengths})
    if is_concrete(lengths) and lengths.shape[0]:
        least, most, width = int(ops.min(lengths)), int(ops.max(lengths)), source.shape[1]
        if least < 0 or (width is not None and most > width):
            raise ValueError(
                f"`source_lengths` must be from 0 to the {width} ids of a row of `source`. "
                f"Received: source_lengths from {least} to {most}."
            )
    return lengths


def end_ids_of(end_id: int | Sequence[int] | str | None) -> tuple[int, ...]:
    """Returns the end ids as a tuple: one, several or none."""
    if end_id is None:
        return ()
    if isinstance(end_id, str):
        raise ValueError(f'`end_id` must be an id, a list of ids, None or "auto". Received: end_id={end_id!r}.')
    return tuple(end_id) if isinstance(end_id, (list, tuple)) else (cast(int, end_id),)  # the config checks it


def check_no_tensor(name: str, value: object) -> None:
    """Raises a `ValueError` for a tensor, as the argument determines what is traced."""
    if is_array(value):
        raise ValueError(f"`{name}` must not be a tensor. Received: {name}.shape={static_shape(value)}.")
