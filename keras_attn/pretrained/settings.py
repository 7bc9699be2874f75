"""Strict reading of `config.json`: what changes numbers is read or refused, what does not is ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_attn.base.activations import gelu_tanh, quick_gelu, squared_relu
from keras_attn.base.types import Activation

if TYPE_CHECKING:
    from keras_attn.pretrained.family import Family


class Settings(dict[str, Any]):
    """The settings of a config by this library's names.

    Attributes:
        theirs: The config's names of the settings that have other names there.
        given: The settings that the config itself has, by this library's names.
    """

    theirs: Mapping[str, str] = {}
    given: Mapping[str, Any] = {}


# Settings of every family that change numbers, with the values that are supported; the first is the default.
FIXED: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "pruned_heads": ({},),
    "position_embedding_type": ("absolute",),
}
# Settings that every family reads for its heads, with their defaults.
SHARED: dict[str, Any] = {
    "architectures": None,
    "id2label": None,
    "num_labels": None,
    "problem_type": None,
    "sbert_ce_default_activation_function": None,
    "sentence_transformers": None,
}
# What does not change the numbers of a forward pass: training, generation, tokenizers, formats.
IGNORED_NAMES = """
    attn_implementation bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward cls_token_id
    decoder_start_token_id directionality diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id gradient_checkpointing ignore_mismatched_sizes initializer_cutoff_factor initializer_factor
    initializer_range label2id language length_penalty mask_token_id max_length min_length model_type
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
    output_past output_scores pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head
    pooler_type prefix remove_invalid_values repetition_penalty return_dict return_dict_in_generate
    sep_token_id suppress_tokens task_specific_params
    temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript
    transformers_version typical_p unk_token_id use_bfloat16 use_cache xla_device
"""
IGNORED = frozenset(IGNORED_NAMES.split())

# Settings that may be null whatever their default is.
OPTIONAL = (
    "pad_token_id",
    "sliding_window",
    "num_key_value_heads",
    "head_dim",
    *(f"{each}_logit_softcapping" for each in ("attn", "final")),
)

ACTIVATIONS: dict[str, Activation] = {
    **dict.fromkeys(("gelu", "gelu_python"), "gelu"),
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"), gelu_tanh),
    **{name: name for name in ("relu", "relu6", "silu", "tanh", "sigmoid", "linear", "mish")},
    "swish": "silu",
    "hardswish": "hard_silu",
    "quick_gelu": quick_gelu,
    "relu2": squared_relu,
}


def read_settings(config: Mapping[str, Any], family: Family) -> Settings:
    """Returns a config's settings with the family's defaults.

    Raises:
        ValueError: For settings that are unknown, or have a value that would change the numbers.
    """
    fixed = {**FIXED, **family.fixed}
    known = {**SHARED, **family.defaults}
    theirs = {ours: name for name, ours in family.names.items() if name in config}
    config = {family.names.get(name, name): value for name, value in config.items()}
    readable = {*fixed, *known, *IGNORED, *family.ignored}
    unknown = sorted(name for name in config if name not in readable and not name.startswith("_"))
    if unknown:
        shown = ", ".join(f"{name}={json.dumps(config[name])[:60]}" for name in unknown)
        raise ValueError(
            f"config.json of the family {family.name!r} has settings that are not known and may change the numbers. "
            f"Received: {shown}."
        )
    for name, values in fixed.items():
        value = config.get(name)
        if value is not None and value not in values:
            raise ValueError(
                f"`{name}` of config.json must be {' or '.join(map(json.dumps, values))} for the family "
                f"{family.name!r}. Received: {name}={json.dumps(value)}."
            )
    settings = Settings(known | {name: value for name, value in config.items() if name in known})
    settings.theirs = theirs
    settings.given = config
    for name, value in settings.items():
        check_kind(theirs.get(name, name), value, known[name])
    return settings


def check_kind(name: str, value: object, default: object) -> None:
    """Raises a `ValueError` for a setting of another type than its default; those of `OPTIONAL` may be null."""
    if default is None or (value is None and name in OPTIONAL):
        return
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if not isinstance(value, kinds) or isinstance(value, bool) is not isinstance(default, bool):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"`{name}` of config.json must be of type {wanted}. Received: {name}={json.dumps(value)}.")


def activation_of(settings: Settings, name: str) -> Activation:
    """Returns the activation that a setting names; raises a `ValueError` for unknown ones."""
    value, theirs = settings[name], settings.theirs.get(name, name)
    if value not in ACTIVATIONS:
        raise ValueError(
            f"`{theirs}` of config.json must be one of {sorted(ACTIVATIONS)}. Received: {theirs}={value!r}."
        )
    return ACTIVATIONS[value]


def first_given(settings: Settings, *names: str) -> Any:
    """Returns the first setting that is not None."""
    return next((settings[name] for name in names if settings[name] is not None), None)
