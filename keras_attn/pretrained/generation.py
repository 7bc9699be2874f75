"""The settings of `generation_config.json` as a strategy with processors; what would be lost is refused by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from keras_attn.base.checks import check_number
from keras_attn.base.special_ids import SpecialIds
from keras_attn.decoding import (
    BannedFirstTokens,
    BannedSequences,
    BannedTokens,
    Beam,
    BestScoreStop,
    CurrentScoreStop,
    ForcedFirstToken,
    ForcedLastToken,
    Greedy,
    MaxTotalLength,
    MinLength,
    MinTotalLength,
    NoRepeatNGrams,
    PowerPenalty,
    Processor,
    Renormalize,
    RepetitionPenalty,
    Sample,
    Strategy,
    WidthStop,
)

# The settings that are read, with the defaults of transformers.
DEFAULTS: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "min_length": 0,
    "min_new_tokens": None,
    "max_length": None,
    "max_new_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "renormalize_logits": False,
}
# The integers among them, with their bounds.
LEAST = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "top_k": 0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "max_length": 2,
    "max_new_tokens": 1,
}
# Settings that are not supported, with the values that change nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "guidance_scale": (1,),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "sequence_bias": ({}, []),
    "constraints": ([],),
    "force_words_ids": ([],),
    "forced_decoder_ids": ([],),
    "force_bos_token_to_be_generated": (False,),
    "exponential_decay_length_penalty": (),
    "stop_strings": ([], ""),
    "max_time": (),
    "token_healing": (False,),
    "watermarking_config": (),
}
REFUSED_IN_SAMPLING: dict[str, tuple[Any, ...]] = {
    "typical_p": (1,),
    "top_h": (),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
}
# What changes no text: ids that the special ids contain, caches, outputs, faster generation with the same result.
IGNORED_NAMES = """
    assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind bos_token_id
    cache_config cache_implementation compile_config continuous_batching_config decoder_start_token_id disable_compile
    eos_token_id is_assistant low_memory max_cache_len max_matching_ngram_size num_assistant_tokens
    num_assistant_tokens_schedule output_attentions output_hidden_states output_logits output_scores pad_token_id
    prefill_chunk_size prompt_lookup_num_tokens remove_invalid_values return_dict_in_generate return_legacy_cache
    speculation_type target_lookbehind transformers_version use_cache use_mtp
"""
IGNORED = frozenset(IGNORED_NAMES.split())
STOPS = {True: WidthStop(), False: CurrentScoreStop(), "never": BestScoreStop()}


@dataclasses.dataclass(frozen=True)
class Generation:
    """How a pretrained model generates.

    Attributes:
        strategy: The strategy, with its processors.
        max_new_tokens: Maximum number of tokens; None if the settings do not say it. For models that continue
            prompts, a `max_length` that counts the prompt is a `MaxTotalLength` of the strategy instead.
    """

    strategy: Strategy
    max_new_tokens: int | None


def generation_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the generation settings of a config.json, for folders of older versions of transformers."""
    names = {*DEFAULTS, *REFUSED, *REFUSED_IN_SAMPLING}
    return {name: value for name, value in config.items() if name in names}


def generation_of(settings: Mapping[str, Any], special_ids: SpecialIds, reads_prompts: bool) -> Generation:
    """Returns how a model generates with the settings of transformers.

    Greedy and beam searches choose the tokens of transformers, except for padding and the start id, which are not
    chosen unless they end a text. Texts end with `special_ids.end_ids`. In a batch of prompts, transformers also
    counts the padding before the shorter ones (`max_length`, `min_length`, n-grams); here each row has the text that
    it would have alone.

    Args:
        settings: Contents of `generation_config.json`, or `generation_settings(config)`.
        special_ids: The special ids of the model.
        reads_prompts: Whether the model continues prompts; otherwise it has an encoder.

    Raises:
        ValueError: For settings that are unknown, not supported and not neutral, or out of range.
    """
    check_supported(settings)
    values = DEFAULTS | {name: settings[name] for name in DEFAULTS if settings.get(name) is not None}
    for name, value in values.items():
        check_value(name, value)
    processors = [*length_processors(values, reads_prompts), *token_processors(values, special_ids, reads_prompts)]
    return Generation(strategy_of(values, processors), max_new_tokens_of(values, reads_prompts))


def check_supported(settings: Mapping[str, Any]) -> None:
    """Raises a `ValueError` for settings that are unknown, or that change texts and are not supported."""
    known = {*DEFAULTS, *REFUSED, *REFUSED_IN_SAMPLING, *IGNORED}
    unknown = sorted(name for name in settings if name not in known and not name.startswith("_"))
    if unknown:
        raise ValueError(f"The generation settings must be known. Received: {shown(settings, unknown)}.")
    refused = REFUSED | (REFUSED_IN_SAMPLING if settings.get("do_sample") else {})
    changing = [
        name for name, neutral in refused.items() if settings.get(name) is not None and settings[name] not in neutral
    ]
    if changing:
        raise ValueError(
            "The generation settings must not change texts in a way that is not supported. "
            f"Received: {shown(settings, changing)}."
        )


def check_value(name: str, value: object) -> None:
    """Raises a `ValueError` for a value of another kind than transformers has; lists of ids are checked later."""
    default = DEFAULTS[name]
    if name in LEAST:
        check_number(name, value, int, optional=default is None, at_least=LEAST[name])
    elif isinstance(default, float):
        check_number(name, value)
    elif isinstance(default, bool) and not isinstance(value, bool) and (name, value) != ("early_stopping", "never"):
        raise ValueError(f"`{name}` must be true or false. Received: {name}={json.dumps(value)}.")


def strategy_of(values: Mapping[str, Any], processors: list[Processor]) -> Strategy:
    """Returns the strategy of settings that are checked."""
    width, number = values["num_beams"], values["num_return_sequences"]
    if values["do_sample"] and width > 1:
        raise ValueError(f"`num_beams` must be 1 if `do_sample` is true. Received: num_beams={width}.")
    if values["do_sample"]:
        top_k, top_p, min_p = values["top_k"] or None, values["top_p"], values["min_p"]
        return Sample(values["temperature"], top_k, top_p, min_p, num_samples=number, processors=processors)
    if width > 1:
        penalty, stop = PowerPenalty(values["length_penalty"]), STOPS[values["early_stopping"]]
        return Beam(width, penalty, num_return_sequences=number, stop=stop, processors=processors)
    if number > 1:
        raise ValueError(
            f"`num_return_sequences` must be 1 for greedy search. Received: num_return_sequences={number}."
        )
    return Greedy(processors=processors)


def max_new_tokens_of(values: Mapping[str, Any], reads_prompts: bool) -> int | None:
    """Returns the maximum number of new tokens; in transformers, `max_length` counts the start id or the prompt."""
    if values["max_new_tokens"] is not None or values["max_length"] is None or reads_prompts:
        return values["max_new_tokens"]
    return values["max_length"] - 1


def length_processors(values: Mapping[str, Any], reads_prompts: bool) -> Iterable[Processor]:
    """Yields the processors of the greatest length of prompts with their texts."""
    if reads_prompts and values["max_new_tokens"] is None and values["max_length"] is not None:
        yield MaxTotalLength(values["max_length"])


def token_processors(values: Mapping[str, Any], special_ids: SpecialIds, reads_prompts: bool) -> Iterable[Processor]:
    """Yields the processors that change logits, in the order of transformers."""
    if values["repetition_penalty"] != 1:
        yield RepetitionPenalty(values["repetition_penalty"])
    if values["no_repeat_ngram_size"] > 0:
        yield NoRepeatNGrams(values["no_repeat_ngram_size"])
    sequences = [each for each in values["bad_words_ids"] or [] if each not in [[end] for end in special_ids.end_ids]]
    if sequences:
        yield BannedSequences(sequences)
    if values["min_new_tokens"] is None and values["min_length"] > 0:
        yield MinTotalLength(values["min_length"])
    if values["min_new_tokens"]:
        yield MinLength(values["min_new_tokens"])
    first, last = values["forced_bos_token_id"], values["forced_eos_token_id"]
    if first is not None:
        if reads_prompts:
            raise ValueError(
                "`forced_bos_token_id` must be null for a model that continues prompts. "
                f"Received: forced_bos_token_id={first}."
            )
        yield ForcedFirstToken(choosable("forced_bos_token_id", first, special_ids))
    if last is not None:
        last = last[0] if isinstance(last, list) and len(last) == 1 else last
        yield ForcedLastToken(choosable("forced_eos_token_id", last, special_ids))
    if values["suppress_tokens"]:
        yield BannedTokens(values["suppress_tokens"])
    if values["begin_suppress_tokens"]:
        yield BannedFirstTokens(values["begin_suppress_tokens"], 0 if first is None else 1)
    if values["renormalize_logits"]:
        yield Renormalize()


def choosable(name: str, token: object, special_ids: SpecialIds) -> Any:
    """Returns a forced token; raises a `ValueError` if it is not one id that a search may choose."""
    check_number(name, token, int, must="be one id", at_least=0)
    if token in (special_ids.padding, special_ids.start) and token not in special_ids.end_ids:
        raise ValueError(f"`{name}` must not be padding or the start id. Received: {name}={token}, {special_ids}.")
    return token


def shown(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    """Returns settings as text, each shortened."""
    return ", ".join(f"{name}={json.dumps(settings[name])[:60]}" for name in names)
