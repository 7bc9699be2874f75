"""The base classes of the recipes' models that decode: whole calls, packed rows, steps, and `generate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import keras
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes
from keras_attn.base.slot import register
from keras_attn.base.tensors import as_array
from keras_attn.base.types import ArrayLike, Results, State, Tensor
from keras_attn.decoding.loop import search
from keras_attn.decoding.processors import Processor
from keras_attn.decoding.protocol import facts_of
from keras_attn.decoding.request import AUTO, config_of, source_lengths_of
from keras_attn.decoding.strategies import Generated, Strategy
from keras_attn.models.id_model import IdModel
from keras_attn.models.inputs import INPUT_AXES, at_least_one, split_inputs, whole_numbers
from keras_attn.models.searches import CompiledSearches


class SequenceModel(IdModel):
    """A functional model over ids that decodes step by step.

    Attributes:
        source_vocabulary: The side whose vocabulary contains the ids that `generate` takes.
        reads_prompts: Whether the source is a prompt that the generated text continues.
    """

    sides: tuple[str, ...] = ("source", "target")
    source_vocabulary = "source"
    reads_prompts = False

    @property
    def max_length(self) -> int | None:
        """Number of learned positions of the target, including prompts; None for no bound."""
        return None

    @property
    def source_max_length(self) -> int | None:
        """Number of learned positions of the source; None for no bound."""
        return None

    @property
    def vocabulary_size(self) -> int:
        """Number of ids that the model generates, V."""
        return self.get_layer("target_embedding").input_dim

    @property
    def source_vocabulary_size(self) -> int:
        """Number of ids that `generate` takes as source."""
        return self.get_layer(f"{self.source_vocabulary}_embedding").input_dim

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        ids, packing = split_inputs(inputs, self.sides)
        check_axes(INPUT_AXES, {**ids, **packing})
        for name in self.sides:
            self.check_ids(name, ids[name], name)
        if not packing:
            return super().call(ids, training=training, mask=mask)
        packing = {name: whole_numbers(name, value) for name, value in packing.items()}
        return self.call_packed(ids, packing)

    def compute_output_spec(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> keras.KerasTensor:
        return super().compute_output_spec(split_inputs(inputs, self.sides)[0], training=training, mask=mask)

    def call_packed(self, ids: dict[str, Tensor], packing: dict[str, Tensor]) -> Tensor:
        """Calls the model for rows into which several texts or pairs were packed.

        Args:
            ids: Ids of the model's sides by name, `[B, S]` and `[B, T]`.
            packing: Segment ids and positions of the model's sides by name.

        Returns:
            Logits `[B, T, V]`.
        """
        raise ValueError(
            f"`{self.__class__.__name__}` reads one pair per row: its encoder would pass its state from one pair "
            f"to the next. Received packed inputs: {sorted(packing)}."
        )

    def fit(
        self, x: Tensor | None = None, *args: Any, class_weight: Mapping[int, float] | None = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, but raises a `ValueError` for `class_weight`."""
        check_no_class_weight(class_weight)
        return super().fit(x, *args, **kwargs)

    def train_on_batch(
        self, x: Tensor, *args: Any, class_weight: Mapping[int, float] | None = None, **kwargs: Any
    ) -> object:
        """As `keras.Model.train_on_batch`, but raises a `ValueError` for `class_weight`."""
        check_no_class_weight(class_weight)
        return super().train_on_batch(x, *args, **kwargs)

    @overload
    def generate(
        self,
        source: ArrayLike,
        strategy: Strategy | None = None,
        max_length: int = 256,
        *,
        start_id: int | None = None,
        end_id: int | Sequence[int] | str | None = AUTO,
        prefix_ids: ArrayLike | None = None,
        processors: Sequence[Processor] = (),
        cache: Cache | None = None,
        return_attention_scores: Literal[True],
        jit_compile: bool = False,
        source_lengths: ArrayLike | None = None,
    ) -> tuple[Generated, Tensor]: ...

    @overload
    def generate(
        self,
        source: ArrayLike,
        strategy: Strategy | None = None,
        max_length: int = 256,
        start_id: int | None = None,
        end_id: int | Sequence[int] | str | None = AUTO,
        prefix_ids: ArrayLike | None = None,
        processors: Sequence[Processor] = (),
        cache: Cache | None = None,
        return_attention_scores: Literal[False] = False,
        jit_compile: bool = False,
        source_lengths: ArrayLike | None = None,
    ) -> Generated: ...

    def generate(
        self,
        source: ArrayLike,
        strategy: Strategy | None = None,
        max_length: int = 256,
        start_id: int | None = None,
        end_id: int | Sequence[int] | str | None = AUTO,
        prefix_ids: ArrayLike | None = None,
        processors: Sequence[Processor] = (),
        cache: Cache | None = None,
        return_attention_scores: bool = False,
        jit_compile: bool = False,
        source_lengths: ArrayLike | None = None,
    ) -> Generated | tuple[Generated, Tensor]:
        """Generates texts for ids, compiled once for all batches with the same options.

        One compiled search serves all seeds, and all values of `max_length` up to the next of 16, 32,
        64, ...; a model keeps the `models.searches.MAX_COMPILED_SEARCHES` that were used last.

        Args:
            source: Ids `[B, S]`, with padding after the end of a row.
            strategy, max_length, start_id, end_id, prefix_ids, processors, cache, source_lengths: As for
                `keras_attn.decoding.generate`.
            return_attention_scores: Whether to return the attention of each generated token over
                the source too, `[B, N, ...]` with the further axes of `attention_scores`.
            jit_compile: Whether XLA compiles it, once per shape (JAX always does).

        Returns:
            `Generated`: tokens `[B, N, L]`, lengths `[B, N]`, scores `[B, N]`; or a tuple of it
            and the attention scores.

        Raises:
            ValueError: For arguments out of range, ids outside the vocabulary, rows of different
                lengths, or a `max_length` greater than the number of learned positions.
        """
        if return_attention_scores and getattr(self, "attention_scores", None) is None:
            raise ValueError("`return_attention_scores` is for models with a source and a target.")
        source = self.read_ids("source", source, "BS", self.source_vocabulary)
        facts = facts_of(self)
        config = config_of(facts, strategy, max_length, start_id, end_id, processors, cache)
        lengths = source_lengths_of(source_lengths, source)
        facts.check_lengths(source, max_length, lengths)
        prefix, seed = config.prefix(prefix_ids, source.shape[0]), config.strategy.draw_seed()
        config.check_vocabulary(self.vocabulary_size, prefix)
        if is_concrete(source):
            places = facts.max_length
            found = self._searches().run(self, config, source, prefix, seed, jit_compile, places, lengths)
        else:
            found = search(self, source, prefix, seed, config, source_lengths=lengths)
        if not return_attention_scores:
            return found
        return found, self._attention_of(source, found, config.start_id)

    def _searches(self) -> CompiledSearches:
        """Returns the compiled searches, stored in a way that Keras does not track them."""
        if "_compiled_searches" not in self.__dict__:
            object.__setattr__(self, "_compiled_searches", CompiledSearches())
        return self.__dict__["_compiled_searches"]

    def step(self, tokens: Tensor, state: State, index: int | Tensor) -> tuple[Results, State]:
        """Reads one token per row: `extend` for T = 1.

        Args:
            tokens: Ids `[B]`.
            state: From `init_state`, or the previous `extend` or `step`.
            index: Number of the step, an integer scalar or `[B]`, without the positions of a prompt.

        Returns:
            Logits `[B, V]` of the next token, and the new state.
        """
        logits, state = self.extend(one_each(tokens), state, index)
        return logits[:, 0], state

    def _attention_of(self, source: Tensor, found: Generated, start_id: int) -> Tensor:
        """Returns the attention of `Generated` tokens `[B, N, L]` over the source, as in training."""
        rows, number, length = ops.shape(found.tokens)
        texts = ops.reshape(found.tokens, (rows * number, length))
        read = ops.concatenate([ops.full((rows * number, 1), start_id, "int32"), texts[:, :-1]], axis=1)
        scores = self.attention_scores(ops.repeat(source, number, axis=0), read)
        written = ops.arange(length, dtype="int32") < ops.reshape(found.lengths, (-1, 1))
        written = ops.reshape(written, (-1, *(1,) * (len(scores.shape) - 3), length, 1))
        return ops.reshape(ops.where(written, scores, 0), (rows, number, *ops.shape(scores)[1:]))

    def read_source(self, source: Tensor) -> Tensor:
        """Returns source ids as a tensor `[B, S]` with S of at least 1, checked."""
        source = self.read_ids("source", source, "BS", self.source_vocabulary)
        return at_least_one(source, self.special_ids.filler)


@register
class Seq2SeqModel(SequenceModel):
    """A functional model of the recipes from `{"source": [B, S], "target": [B, T]}` to logits `[B, T, V]`."""

    def step(
        self, tokens: Tensor, state: State, index: int | Tensor, return_attention_scores: bool = False
    ) -> tuple[Results, State]:
        """Reads one target token per row: `extend` for T = 1.

        Args:
            tokens: Ids `[B]`, first the start id; or `[B W]`, with the W beams of a row next to each other.
            state: From `init_state`, or the previous `extend` or `step`.
            index: Position of the step, an integer scalar or `[B]`.
            return_attention_scores: Whether to return the attention over the source too, `[B, S]`.

        Returns:
            Logits `[B, V]` of the next token (or a tuple of them and the scores), and the new state.
        """
        if not return_attention_scores:
            return super().step(tokens, state, index)
        (logits, scores), state = self.extend(one_each(tokens), state, index, return_attention_scores=True)
        return (logits[:, 0], scores[:, 0]), state

    def attention_scores(self, source: Tensor, target: Tensor) -> Tensor:
        """Returns the attention of each target position over the source, for ids.

        Args:
            source: Ids `[B, S]`.
            target: Ids `[B, T]`, starting with the start id.

        Returns:
            Scores `[B, ..., T, S]`, see the recipe's `logits_and_scores`.
        """
        return self.logits_and_scores(source, target)[1]

    def logits_and_scores(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits `[B, T, V]` and the attention scores in one pass; arguments as for `attention_scores`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `logits_and_scores(source, target)`.")


def one_each(tokens: Tensor) -> Tensor:
    """Returns ids `[B]` as a chunk `[B, 1]`."""
    tokens = as_array("tokens", tokens)
    check_axes({"tokens": "B"}, {"tokens": tokens})
    return tokens[:, None]


def check_no_class_weight(class_weight: Mapping[int, float] | None) -> None:
    """Raises a `ValueError` for class weights: Keras would read a row of ids as the one-hot vector of one class."""
    if class_weight is not None:
        raise ValueError(
            "`class_weight` is not for sequences of ids: pass `sample_weight` [B, T], a weight for each token. "
            f"Received: class_weight of {len(class_weight)} classes."
        )
