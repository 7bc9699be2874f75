"""The generation loop over a model's steps, the same for all decoders and strategies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.backend import no_gradient, while_loop
from keras_attn.base.state import map_rows
from keras_attn.base.tensors import to_tensor
from keras_attn.base.types import ArrayLike, State, Tensor
from keras_attn.decoding.context import NOTHING, SearchContext
from keras_attn.decoding.processors import Processor, log_softmax
from keras_attn.decoding.protocol import DecodingModel, ScoringModel, check_decodes, check_takes, facts_of
from keras_attn.decoding.request import AUTO, GenerationConfig, config_of, source_lengths_of
from keras_attn.decoding.sources import first_state, grow_caches, prompts_of, source_mask
from keras_attn.decoding.strategies import Generated, Strategy


def generate(
    model: DecodingModel,
    source: ArrayLike,
    strategy: Strategy | None = None,
    max_length: int = 256,
    start_id: int | None = None,
    end_id: int | Sequence[int] | str | None = AUTO,
    prefix_ids: ArrayLike | None = None,
    processors: Sequence[Processor] = (),
    cache: Cache | None = None,
    source_lengths: ArrayLike | None = None,
) -> Generated:
    """Generates texts token by token, until all rows are done.

    It runs eagerly, inside a `tf.function` or `jax.jit`, under XLA, and inside an exported
    graph. The recipes' `model.generate` compiles it.

    Padding and the start id are never chosen unless they end a text: their log probability is
    minus infinity. The log probabilities of all other tokens are those of the model. The model's
    `special_ids` define these ids, by default 0 padding, 1 start, 2 end.

    Args:
        model: Any object with `init_state(source, max_length) -> state`, a structure of tensors
            `[B, ...]`, and `step(tokens [B], state, index) -> (logits [B, V], state)`. The tensors
            under the key `"shared"` of a dictionary in the state belong to a row, not to its
            beams, and are never repeated. `DecodingModel` documents the whole contract.
        source: Passed to `init_state`; its first axis is the batch.
        strategy: `Greedy()` by default, `Sample(...)`, `Beam(...)`, or your own `Strategy`.
        max_length: Maximum number L of tokens.
        start_id: The token that the first step reads; by default that of the model.
        end_id: The token that ends a text, or a list of them; None for no end before `max_length`. The default
            `"auto"` are those of the model (`special_ids.end_ids`).
        prefix_ids: Tokens at the beginning of the texts, int32 `[B, P]` or `[P]`; padding forces no token.
            The start id may be among them.
        processors: Processors applied in order, after those of the strategy: `MinLength`, `BannedTokens`,
            `RepetitionPenalty`, `NoRepeatNGrams`, ... or your own.
        cache: How attention stores keys and values (`ExactCache()` or `Int8Cache()`), for models
            whose `init_state` takes it.
        source_lengths: Number of real ids of each row of `source`, int32 `[B]`, for models whose `init_state`
            (and `first_tokens`) take it; by default the model finds padding itself.

    Returns:
        `Generated`: tokens `[B, N, L]`, lengths `[B, N]`, scores `[B, N]`.

    Raises:
        ValueError: For arguments out of range, an end id outside the model's vocabulary, rows of
            different lengths, a prefix longer than `max_length`, or a `max_length` greater than
            the number of positions of the model.

    Example:
    >>> import numpy as np
    >>> from keras_attn import decoding, models
    >>> model = models.RNNSeq2Seq(50, 60, size=16)
    >>> found = decoding.generate(model, np.array([[5, 6, 2]]), decoding.Beam(width=3), max_length=7)
    >>> found.tokens.shape.as_list()
    [1, 1, 7]
    """
    check_decodes(model)
    facts = facts_of(model)
    config = config_of(facts, strategy, max_length, start_id, end_id, processors, cache)
    source = to_tensor("source", source)
    lengths = source_lengths_of(source_lengths, source)
    facts.check_lengths(source, max_length, lengths)
    prefix, seed = config.prefix(prefix_ids, source.shape[0]), config.strategy.draw_seed()
    if facts.vocabulary_size is not None:
        config.check_vocabulary(facts.vocabulary_size, prefix)
    return search(model, source, prefix, seed, config, source_lengths=lengths)


def search(
    model: DecodingModel,
    source: Tensor,
    prefix: Tensor | None,
    seed: Tensor | None,
    config: GenerationConfig,
    limits: Tensor | None = None,
    temperature: Tensor | None = None,
    source_lengths: Tensor | None = None,
) -> Generated:
    """Runs the loop, for the arguments of `generate` after they were checked and converted to tensors.

    Args:
        model, source, prefix, seed, config: As for `generate` and `GenerationConfig`.
        limits: Maximum number of tokens of each row, int32 `[B]`, or a scalar for all rows; clipped
            to the range from 1 to `config.max_length`.
        temperature: Temperature of each row, float32 `[B]`, which a sampling strategy uses instead of
            its own; 0 chooses the most probable token.
        source_lengths: Number of real ids of each row of the source, int32 `[B]`; None if the model finds it itself.
    """
    strategy, rows = config.strategy, ops.shape(source)[0]
    limits = ops.ones((rows,), "int32") * ops.cast(config.max_length if limits is None else limits, "int32")
    limits = ops.clip(limits, 1, config.max_length)
    facts, processors = facts_of(model), config.all_processors
    mask = source_mask(strategy, source, facts.special_ids, source_lengths)
    prompts = prompts_of(source, config.start_id, facts, source_lengths) if processors else None
    context = SearchContext(
        rows, config.max_length, config.end_ids, limits, temperature, seed, mask, config.filler, prompts
    )
    for processor in processors:
        context = dataclasses.replace(context, limits=ops.maximum(processor.limits(context), 1))
    of_texts = context.repeated(strategy.num_beams)
    if strategy.reads_attention:
        check_takes(model.step, "return_attention_scores", "A coverage penalty needs a model that attends to a source")
    with no_gradient():
        written, *later = stages(config.max_length)
        unused = config.max_length - written
        state, tokens = first_state(model, source, config, facts, unused, source_lengths)
        index = ops.zeros((), "int32")
        carry = {"index": index, "tokens": tokens, "state": state, "search": strategy.start(context)}

        def body(carry: dict[str, State]) -> dict[str, State]:
            index, known = carry["index"], carry["search"]
            reads_attention = strategy.reads_attention
            logits, attention, state = step(model, carry["tokens"], carry["state"], index, reads_attention)
            config.check_vocabulary(logits.shape[-1], prefix)
            logits, texts = ops.cast(logits, "float32"), ops.reshape(known["tokens"], (-1, config.max_length))
            processed = log_softmax(logits) if strategy.processes_log_probs else logits
            for processor in processors:
                processed = processor.apply(processed, texts, index, of_texts)
            log_probs = log_probabilities(logits, processed, prefix, index, config)
            tokens, parents, known = strategy.advance(log_probs, known, index, context, attention)
            if parents is not None:
                state = map_rows(lambda tensor: ops.take(tensor, parents, axis=0), state)
            return {"index": index + 1, "tokens": ops.cast(tokens, "int32"), "state": state, "search": known}

        def unfinished_before(limit: int) -> Callable[[dict[str, State]], Tensor]:
            def condition(carry: dict[str, State]) -> Tensor:
                unfinished = ops.logical_not(ops.all(carry["search"]["done"]))
                return ops.logical_and(carry["index"] < limit, unfinished)

            return condition

        carry = while_loop(unfinished_before(written), body, carry)
        for limit in later:
            carry["state"] = grow_caches(carry["state"], limit - written)
            carry, written = while_loop(unfinished_before(limit), body, carry), limit
        return strategy.finish(carry["search"], context)


def stages(max_length: int) -> list[int]:
    """Returns the lengths at which the stages of a search end; each stage is a separate loop.

    The caches grow between stages, so that the cost of a step depends on the number of tokens so far.
    Each stage is traced and compiled separately, so there are only a few: 64, 256, 1,024, ...
    """
    limits = [64]
    while limits[-1] < max_length:
        limits.append(4 * limits[-1])
    return [*limits[:-1], max_length]


def step(
    model: DecodingModel, tokens: Tensor, state: State, index: Tensor, return_attention_scores: bool
) -> tuple[Tensor, Tensor | None, State]:
    """Runs one step of the model; returns logits, attention over the source (None if not requested), and state."""
    if not return_attention_scores:
        logits, state = model.step(tokens, state, index)
        return logits, None, state
    (logits, attention), state = cast(ScoringModel, model).step(tokens, state, index, return_attention_scores=True)
    return logits, attention, state


def log_probabilities(
    logits: Tensor, processed: Tensor, prefix: Tensor | None, index: Tensor, config: GenerationConfig
) -> Tensor:
    """Returns the log probabilities `[R, V]` of the next tokens: minus infinity for forbidden ones.

    Args:
        logits: Logits of the model, `[R, V]`.
        processed: The same, or their log probabilities if the strategy `processes_log_probs`, after all processors.
        prefix: int32 `[B or 1, P]`, or None. A token that it forces has the log probability of the
            model, and all others have minus infinity: processors have no effect on a prefix.
        index: The position, an int32 scalar.
        config: The `GenerationConfig`. Its `forbidden_ids` are not chosen unless the prefix forces them. The
            log probabilities of the other tokens are not renormalised.
    """
    tokens = ops.arange(logits.shape[-1], dtype="int32")
    allowed = np.isin(np.arange(logits.shape[-1]), [*config.forbidden_ids], invert=True)[None]
    allowed = ops.convert_to_tensor(allowed, "bool")
    if prefix is not None:
        unprocessed = log_softmax(logits) if config.strategy.processes_log_probs else logits
        wanted = wanted_at(prefix, index, ops.shape(logits)[0], config.free)  # [R, 1]
        is_forced = ops.not_equal(wanted, config.free)
        allowed = ops.where(is_forced, ops.equal(tokens, wanted), allowed)
        processed = ops.where(is_forced, unprocessed, processed)
    log_probs = processed if config.strategy.processes_log_probs else log_softmax(processed)
    return ops.where(allowed, log_probs, NOTHING)


def wanted_at(prefix: Tensor, index: Tensor, num_rows: int | Tensor, free: int) -> Tensor:
    """Returns the token that a prefix `[B or 1, P]` forces at a position, for each beam `[R, 1]`; `free` for none."""
    length = ops.shape(prefix)[1]
    padded = ops.pad(prefix, [[0, 0], [0, 1]], constant_values=free)  # the last column forces nothing
    last = ops.convert_to_tensor(length, "int32")
    wanted = ops.take(padded, ops.minimum(index, last), axis=1)[:, None]  # [B or 1, 1]
    return ops.repeat(wanted, num_rows // ops.shape(wanted)[0], axis=0)
