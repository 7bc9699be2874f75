"""Qwen 2 and 2.5 (arXiv:2407.10671), and Qwen 3 (arXiv:2505.09388), whose queries and keys are normalised."""

from __future__ import annotations

from typing import Any

from keras_attn.attention import DotProduct
from keras_attn.layers.norms import RMSNorm
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

DEFAULTS: dict[str, Any] = {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}


def kinds(s: Settings) -> list[str]:
    """Returns the kind of attention of each block: without `layer_types`, the last ones have a window."""
    first = s["max_window_layers"] if windowed(s) else s["num_hidden_layers"]
    return layer_types(s, [KINDS[i >= first] for i in range(s["num_hidden_layers"])])


def windowed(s: Settings) -> bool:
    return s["use_sliding_window"] and s["sliding_window"] is not None


def masks(s: Settings) -> list[Any]:
    """Returns the mask of each block; without `use_sliding_window`, no block has a window."""
    return [pattern(s, kind if windowed(s) else KINDS[0]) for kind in kinds(s)]


def qwen2_arguments(s: Settings) -> dict[str, Any]:
    return arguments(s, [attention(s, mask, rotary(s), use_bias=["in_projection"]) for mask in masks(s)])


def qwen2_weights(s: Settings) -> Table:
    return weights(s, bias=(True, False))


def qwen3_arguments(s: Settings) -> dict[str, Any]:
    score, bias = DotProduct(RMSNorm(s["rms_norm_eps"])), s["attention_bias"]
    return arguments(s, [attention(s, mask, rotary(s), score, bias) for mask in masks(s)])


def qwen3_weights(s: Settings) -> Table:
    return weights(s, normed_heads=True, bias=(s["attention_bias"],) * 2)


QWEN2 = decoder_family(
    "qwen2",
    DEFAULTS,
    arguments=qwen2_arguments,
    weights=qwen2_weights,
    fixed={"mlp_bias": (False,), "attention_bias": (False,), "use_mrope": (False,)},
)
QWEN3 = decoder_family(
    "qwen3",
    {**DEFAULTS, "head_dim": 128},
    arguments=qwen3_arguments,
    weights=qwen3_weights,
    fixed={"mlp_bias": (False,)},
)
