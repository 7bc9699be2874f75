"""Gemma 2 (arXiv:2408.00118) and Gemma 3 for texts (arXiv:2503.19786): windows, two norms a sublayer, soft caps."""

from __future__ import annotations

from typing import Any

from keras_attn.attention import DotProduct
from keras_attn.layers.norms import RMSNorm
from keras_attn.positions import Rotary
from keras_attn.pretrained.decoder_tables import (
    KINDS,
    arguments,
    attention,
    decoder_family,
    layer_types,
    pattern,
    weights,
)
from keras_attn.pretrained.rotary import rotary
from keras_attn.pretrained.settings import Settings
from keras_attn.pretrained.tables import Table
from keras_attn.transformer import SandwichNorm

NORMS = {
    "norms.0": "input_layernorm",
    "after_norms.0": "post_attention_layernorm",
    "norms.1": "pre_feedforward_layernorm",
    "after_norms.1": "post_feedforward_layernorm",
}
DEFAULTS: dict[str, Any] = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "pad_token_id": 0,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "layer_types": None,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
}
FIXED: dict[str, tuple[Any, ...]] = {"use_bidirectional_attention": (False,), "mlp_bias": (False,)}
# `hidden_act` is the name of an older setting that transformers does not read either.
NAMES = {"hidden_activation": "hidden_act"}


def gemma_arguments(s: Settings, every: int, score: DotProduct, own_base: bool) -> dict[str, Any]:
    """Returns the arguments of the recipe.

    Args:
        s: The settings.
        every: Every how many blocks one has no window.
        score: The score of all heads.
        own_base: Whether blocks with a window have a base of their own.
    """
    types = layer_types(s, [KINDS[(i + 1) % every != 0] for i in range(s["num_hidden_layers"])])

    def positions(kind: str) -> Rotary:
        if kind == KINDS[0] or not own_base:
            return rotary(s, kind)
        return rotary({**s, "rope_scaling": None}, kind, "rope_local_base_freq")

    attentions = [attention(s, pattern(s, kind), positions(kind), score, s["attention_bias"]) for kind in types]
    return arguments(s, attentions, SandwichNorm(RMSNorm(s["rms_norm_eps"])), s["hidden_size"] ** 0.5)


def gemma2_arguments(s: Settings) -> dict[str, Any]:
    score = DotProduct(softcap=s["attn_logit_softcapping"], scale=s["query_pre_attn_scalar"] ** -0.5)
    return gemma_arguments(s, 2, score, own_base=False)


def gemma3_arguments(s: Settings) -> dict[str, Any]:
    # transformers does not apply `attn_logit_softcapping` in this family.
    score = DotProduct(RMSNorm(s["rms_norm_eps"]), scale=s["query_pre_attn_scalar"] ** -0.5)
    return gemma_arguments(s, s["sliding_window_pattern"], score, own_base=True)


def gemma2_weights(s: Settings) -> Table:
    return weights(s, NORMS, 1.0, bias=(s["attention_bias"],) * 2)


def gemma3_weights(s: Settings) -> Table:
    return weights(s, NORMS, 1.0, normed_heads=True, bias=(s["attention_bias"],) * 2)


GEMMA2 = decoder_family(
    "gemma2",
    {
        **DEFAULTS,
        "vocab_size": 256000,
        "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    arguments=gemma2_arguments,
    weights=gemma2_weights,
    names=NAMES,
    fixed=FIXED,
    ignored=("cache_implementation", "sliding_window_size"),
)
GEMMA3 = decoder_family(
    "gemma3_text",
    {
        **DEFAULTS,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
    },
    arguments=gemma3_arguments,
    weights=gemma3_weights,
    names=NAMES,
    fixed=FIXED,
    ignored=("cache_implementation", "_sliding_window_pattern"),
)
