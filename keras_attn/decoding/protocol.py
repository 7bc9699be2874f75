"""The contract of a model that decodes: its methods, the facts that it declares, and their defaults.

Only `facts_of` reads a model's attributes. All other code reads the `ModelFacts`.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Protocol, TypeGuard, cast

from keras import ops

from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes, check_positive
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import State, Tensor

SIZES = ("vocabulary_size", "source_vocabulary_size", "max_length", "source_max_length")


class DecodingModel(Protocol):
    """A model for `decoding.generate` and `serving.export`: any object with these two methods.

    Two more methods, three more arguments and six facts are optional. A fact is an attribute or a property; see
    `ModelFacts` for the defaults.

    - `extend(tokens [B, T], state, index, lengths=None) -> (logits [B, T, V], state)` reads several
      tokens at once.
    - `first_tokens(source, start_id) -> tokens [B]` returns the tokens that the first step reads, for a
      model with `reads_prompts`: the last token of each prompt.
    - `init_state` may take `cache`. `init_state` and `first_tokens` may take `source_lengths`, int32 `[B]`: the
      number of real ids of each row.
    - `step` may take `return_attention_scores`; if it is true, `step` returns `((logits, scores [B, S]), state)`.
    - `vocabulary_size`, `source_vocabulary_size`, `max_length`, `source_max_length`, `special_ids`,
      `reads_prompts`.

    Example:
    >>> from keras import ops
    >>> from keras_attn import SpecialIds, decoding
    >>> class Counter:
    ...     vocabulary_size, special_ids = 9, SpecialIds(padding=0, start=1, end=7, unknown=8)
    ...     def init_state(self, source, max_length):
    ...         return ()
    ...     def step(self, tokens, state, index):
    ...         return ops.one_hot(tokens + 1, 9), state
    >>> decoding.generate(Counter(), [[3]], max_length=8).tokens.numpy().tolist()
    [[[2, 3, 4, 5, 6, 7, 0, 0]]]
    """

    def init_state(self, source: Tensor, max_length: int) -> State:
        """Returns the state before the first step: a structure of tensors `[B, ...]`."""
        ...

    def step(self, tokens: Tensor, state: State, index: Tensor) -> tuple[Tensor, State]:
        """Reads one token per row `[B]`; returns the logits `[B, V]` of the next tokens, and the new state."""
        ...


class PromptModel(DecodingModel, Protocol):
    """A model that continues prompts: `reads_prompts` is true."""

    def first_tokens(self, source: Tensor, start_id: int) -> Tensor:
        """Returns the tokens that the first step reads, `[B]`: the last token of each prompt."""
        ...


class ScoringModel(Protocol):
    """A model whose step can return its attention over the source."""

    def step(
        self, tokens: Tensor, state: State, index: Tensor, return_attention_scores: bool
    ) -> tuple[tuple[Tensor, Tensor], State]:
        """As `DecodingModel.step`, but also returns the scores `[B, S]`."""
        ...


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """The facts of a model that decodes.

    Attributes:
        vocabulary_size: Number of ids that the model generates, V; None if not declared.
        source_vocabulary_size: Number of ids that it takes as source; None if not declared.
        max_length: Number of positions of the generated side, including prompts; None for no bound.
        source_max_length: Number of ids that a source may have; None for no bound.
        special_ids: `SpecialIds()` if not declared.
        reads_prompts: Whether the source is a prompt that the generated text continues; by default True if
            the model has `first_tokens`.
        extends: Whether the model has `extend`.
    """

    vocabulary_size: int | None = None
    source_vocabulary_size: int | None = None
    max_length: int | None = None
    source_max_length: int | None = None
    special_ids: SpecialIds = dataclasses.field(default_factory=SpecialIds)
    reads_prompts: bool = False
    extends: bool = False

    def longest_source(self, max_length: int) -> int | None:
        """Returns how many ids a source may have if `max_length` tokens are generated; None for no bound.

        The model reads the last id of a prompt at its position, and `max_length - 1` tokens after it.
        """
        bounds = [self.source_max_length]
        if self.reads_prompts and self.max_length is not None:
            bounds.append(self.max_length - max_length + 1)
        return min((bound for bound in bounds if bound is not None), default=None)

    def check_max_length(self, max_length: int) -> None:
        """Raises a `ValueError` if the model has fewer than `max_length` positions."""
        if self.max_length is not None and max_length > self.max_length:
            raise ValueError(
                f"`max_length` must be at most the {self.max_length} positions of the model. "
                f"Received: max_length={max_length}."
            )

    def check_lengths(self, source: Tensor, max_length: int, source_lengths: Tensor | None = None) -> None:
        """Raises a `ValueError` if the model has too few positions for a source `[B, S]` or `max_length` tokens.

        Args:
            source: The source, ids or anything else.
            max_length: Maximum number of tokens.
            source_lengths: Number of real ids of each row, int32 `[B]`; None if padding tells it.
        """
        if self.source_max_length is None and self.max_length is None:
            return
        if self.reads_prompts:
            self._check_prompts(source, max_length, source_lengths)
            return
        if self.source_max_length is not None:
            check_axes({"source": "BS"}, {"source": source})
            if (source.shape[1] or 0) > self.source_max_length:
                raise ValueError(
                    f"`source` must have at most the {self.source_max_length} positions of the model. "
                    f"Received: source.shape={tuple(source.shape)}."
                )
        self.check_max_length(max_length)

    def prompt_lengths(self, source: Tensor, source_lengths: Tensor | None = None) -> Tensor:
        """Returns the number of ids of each prompt `[B, P]`, int32 `[B]`; by default of those that are not padding."""
        if source_lengths is not None:
            return source_lengths
        return ops.cast(ops.sum(ops.cast(self.special_ids.is_read(source), "int32"), axis=-1), "int32")

    def _check_prompts(self, source: Tensor, max_length: int, source_lengths: Tensor | None) -> None:
        """As `check_lengths`, for prompts `[B, P]`; their lengths are known in eager calls only."""
        check_axes({"source": "BS"}, {"source": source})
        lengths = self.prompt_lengths(source, source_lengths)
        longest = int(ops.max(lengths, initial=1)) if is_concrete(lengths) else 1
        width, bound = source.shape[1] or 0, self.longest_source(max_length)
        widest = width if self.source_max_length is None else self.source_max_length
        if width > widest or longest > (longest if bound is None else bound):
            most = "any number" if self.max_length is None else max(self.max_length - longest + 1, 0)
            raise ValueError(
                f"`max_length` must be at most {most} and `source` at most {widest} ids wide: the model has "
                f"{self.max_length} positions, and the longest prompt has {longest} ids. "
                f"Received: max_length={max_length}, source.shape={tuple(source.shape)}."
            )


def decodes(model: object) -> TypeGuard[DecodingModel]:
    """Returns whether a model has the required methods."""
    return all(callable(getattr(model, name, None)) for name in ("init_state", "step"))


def check_decodes(model: object) -> None:
    """Raises a `ValueError` for a model without the required methods."""
    if not decodes(model):
        raise ValueError(
            "`model` must have `init_state(source, max_length)` and `step(tokens, state, index)`. "
            f"Received: model of type {model.__class__.__name__}."
        )


def facts_of(model: object) -> ModelFacts:
    """Returns the `ModelFacts` of any object: the facts that it declares, and defaults for the others.

    Raises:
        ValueError: If a declared fact has the wrong type, if `first_tokens` or `extend` is not a method, or
            if `reads_prompts` is true without `first_tokens`.
    """
    name = model.__class__.__name__
    sizes = {fact: getattr(model, fact, None) for fact in SIZES}
    for fact, value in sizes.items():
        if value is not None:
            check_positive(f"{name}.{fact}", value)
    methods = {method: getattr(model, method, None) for method in ("first_tokens", "extend")}
    for method, value in methods.items():
        if value is not None and not callable(value):
            raise ValueError(f"`{name}.{method}` must be a method. Received: {short_repr(value)}.")
    special_ids = getattr(model, "special_ids", SpecialIds())
    if not isinstance(special_ids, SpecialIds):
        raise ValueError(f"`{name}.special_ids` must be `SpecialIds(...)`. Received: {short_repr(special_ids)}.")
    has_prompts = methods["first_tokens"] is not None
    reads_prompts = getattr(model, "reads_prompts", has_prompts)
    if not isinstance(reads_prompts, bool):
        raise ValueError(f"`{name}.reads_prompts` must be True or False. Received: {short_repr(reads_prompts)}.")
    if reads_prompts and not has_prompts:
        raise ValueError(
            f"`{name}` must have the method `first_tokens(source, start_id)`, as it declares `reads_prompts`. "
            "Received: no such method."
        )
    return ModelFacts(
        **sizes, special_ids=special_ids, reads_prompts=reads_prompts, extends=methods["extend"] is not None
    )


def check_takes_lengths(model: DecodingModel, facts: ModelFacts) -> None:
    """Raises a `ValueError` unless the methods of a model that read its source take `source_lengths`."""
    check_takes(model.init_state, "source_lengths", "`source_lengths` needs a model that reads them")
    if facts.reads_prompts:
        first_tokens = cast(PromptModel, model).first_tokens
        check_takes(first_tokens, "source_lengths", "`source_lengths` needs a model that reads them")


def check_takes(method: Callable[..., object], argument: str, who: str) -> None:
    """Raises a `ValueError` unless a model's method takes an optional argument of the contract."""
    if argument not in inspect.signature(method).parameters:
        raise ValueError(f"{who}: `{method.__name__}` must take `{argument}`. Received: {method.__qualname__}.")
