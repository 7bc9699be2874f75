"""The generation loop over a model's steps, the same for all decoders and strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.attention.cache_state import CacheState, map_caches
from keras_attn.backend import no_gradient, while_loop
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.state import map_rows
from keras_attn.base.tensors import static_shape, to_tensor
from keras_attn.base.types import ArrayLike, State, Tensor
from keras_attn.decoding.processors import Processor
from keras_attn.decoding.protocol import (
    DecodingModel,
    ModelFacts,
    PromptModel,
    ScoringModel,
    check_decodes,
    check_takes,
    check_takes_lengths,
    facts_of,
)
from keras_attn.decoding.request import AUTO, GenerationConfig, config_of, source_lengths_of
from keras_attn.decoding.strategies import Generated, SearchContext, Strategy


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
        processors: `MinLength`, `BannedTokens`, `RepetitionPenalty` or your own, applied in order.
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
    facts = facts_of(model)
    mask = source_mask(strategy, source, facts.special_ids, source_lengths)
    context = SearchContext(rows, config.max_length, config.end_ids, limits, temperature, seed, mask, config.filler)
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
            logits = ops.cast(logits, "float32")
            processed, texts = logits, ops.reshape(known["tokens"], (-1, config.max_length))
            for processor in config.processors:
                processed = processor(processed, texts, index, config.end_ids)
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


def first_state(
    model: DecodingModel,
    source: Tensor,
    config: GenerationConfig,
    facts: ModelFacts,
    unused: int,
    source_lengths: Tensor | None = None,
) -> tuple[State, Tensor]:
    """Returns the state before the first step, and the tokens int32 `[B W]` that this step reads.

    Args:
        model, source, config, source_lengths: As for `search`.
        facts: The `ModelFacts` of the model.
        unused: How many of the `config.max_length` tokens the first stage does not reach.
    """
    width, cache, lengths = config.strategy.num_beams, {}, {}
    if config.cache is not None:
        check_takes(model.init_state, "cache", "`cache` needs a model with caches")
        cache = {"cache": config.cache}
    if source_lengths is not None:
        check_takes_lengths(model, facts)
        lengths = {"source_lengths": source_lengths}
    state = model.init_state(source, config.max_length, **cache, **lengths)
    state = state if width == 1 else map_rows(lambda tensor: ops.repeat(tensor, width, axis=0), state)
    if facts.reads_prompts:
        tokens = cast(PromptModel, model).first_tokens(source, config.start_id, **lengths)
    else:
        tokens = ops.ones((ops.shape(source)[0],), "int32") * config.start_id
    return own_caches(state, config.max_length, unused), ops.repeat(tokens, width, axis=0)


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
        processed: The same after all processors.
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
        wanted = wanted_at(prefix, index, ops.shape(logits)[0], config.free)  # [R, 1]
        is_forced = ops.not_equal(wanted, config.free)
        allowed = ops.where(is_forced, ops.equal(tokens, wanted), allowed)
        processed = ops.where(is_forced, logits, processed)
    # Where all logits are minus infinity, their log-softmax is NaN.
    allowed = ops.logical_and(allowed, ops.not_equal(processed, float("-inf")))
    return ops.where(allowed, ops.log_softmax(processed, axis=-1), float("-inf"))


def wanted_at(prefix: Tensor, index: Tensor, num_rows: int | Tensor, free: int) -> Tensor:
    """Returns the token that a prefix `[B or 1, P]` forces at a position, for each beam `[R, 1]`; `free` for none."""
    length = ops.shape(prefix)[1]
    padded = ops.pad(prefix, [[0, 0], [0, 1]], constant_values=free)  # the last column forces nothing
    last = ops.convert_to_tensor(length, "int32")
    wanted = ops.take(padded, ops.minimum(index, last), axis=1)[:, None]  # [B or 1, 1]
    return ops.repeat(wanted, num_rows // ops.shape(wanted)[0], axis=0)


def source_mask(
    strategy: Strategy, source: Tensor, special_ids: SpecialIds, source_lengths: Tensor | None
) -> Tensor | None:
    """Returns which source positions are real, `[B, S]`, or None for a strategy that does not read attention."""
    if not strategy.reads_attention:
        return None
    if len(source.shape) != 2:
        raise ValueError(
            f"A coverage penalty needs a `source` of ids, [B, S]. Received: source.shape={static_shape(source)}."
        )
    if source_lengths is not None:
        return ops.arange(ops.shape(source)[1], dtype="int32") < source_lengths[:, None]
    return special_ids.is_real(source)


def own_caches(state: State, max_length: int, unused: int) -> State:
    """Returns a state whose caches a loop may overwrite, without the slots that its first stage cannot reach.

    A cache with fewer slots than `max_length`, such as that of a window, keeps all of them.
    """

    def own(each: CacheState) -> CacheState:
        places = each.static_places
        return each.cache.own(each, 0 if places is not None and places < max_length else unused)

    return map_caches(own, state)


def grow_caches(state: State, added: int) -> State:
    """Returns a state whose caches have `added` more of the slots that were left out."""
    return map_caches(lambda each: each.cache.grow(each, added), state)
