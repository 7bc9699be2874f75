"""What a search reads from its source: the first state, the first tokens, the prompts, the mask of real positions."""

from __future__ import annotations

from typing import cast

from keras import ops

from keras_attn.attention.cache_state import CacheState, map_caches
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.state import map_rows
from keras_attn.base.tensors import static_shape
from keras_attn.base.types import State, Tensor
from keras_attn.decoding.context import ABSENT
from keras_attn.decoding.protocol import DecodingModel, ModelFacts, PromptModel, check_takes, check_takes_lengths
from keras_attn.decoding.request import GenerationConfig
from keras_attn.decoding.strategies import Strategy


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


def prompts_of(source: Tensor, start_id: int, facts: ModelFacts, source_lengths: Tensor | None) -> Tensor:
    """Returns the ids that a model reads before its first token, int32 `[B, P]`, as in `SearchContext`.

    An empty prompt counts as one with only the start id, and so does a source that is no prompt.

    Args:
        source, source_lengths: As for `search`.
        start_id: The start id.
        facts: The `ModelFacts` of the model.
    """
    rows = ops.shape(source)[0]
    if not facts.reads_prompts or len(source.shape) != 2:
        return ops.ones((rows, 1), "int32") * start_id
    lengths = facts.prompt_lengths(source, source_lengths)[:, None]
    padded = ops.pad(ops.cast(source, "int32"), [[0, 0], [1, 0]], constant_values=start_id)  # [B, 1 + P]
    width = ops.shape(padded)[1]
    places = ops.arange(width, dtype="int32") - ops.convert_to_tensor(width - 1, "int32") + lengths
    present = places >= ops.minimum(lengths, 1)  # place 0 is the start id
    ids = ops.take_along_axis(padded, ops.maximum(places, 0), axis=1)
    return ops.where(present, ids, ABSENT)


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
