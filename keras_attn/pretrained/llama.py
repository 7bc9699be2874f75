"""Llama 2 and 3 (arXiv:2307.09288, arXiv:2407.21783), which SmolLM 1 and 2 are, and Mistral (arXiv:2310.06825)."""

from __future__ import annotations

from typing import Any

from keras_attn.masks import Causal
from keras_attn.pretrained.decoder_tables import arguments, attention, decoder_family, pattern, weights
from keras_attn.pretrained.rotary import rotary
from keras_attn.pretrained.settings import Settings
from keras_attn.pretrained.tables import Table


def llama_arguments(s: Settings) -> dict[str, Any]:
    number, bias = s["num_hidden_layers"], s["attention_bias"]
    return arguments(s, [attention(s, Causal(), rotary(s), use_bias=bias) for _ in range(number)])


def llama_weights(s: Settings) -> Table:
    return weights(s, bias=(s["attention_bias"],) * 2)


def mistral_arguments(s: Settings) -> dict[str, Any]:
    mask = pattern(s, "full_attention" if s["sliding_window"] is None else "sliding_attention")
    return arguments(s, [attention(s, mask, rotary(s)) for _ in range(s["num_hidden_layers"])])


LLAMA = decoder_family(
    "llama",
    {},
    arguments=llama_arguments,
    weights=llama_weights,
    ignored=("pretraining_tp", "is_llama_config", "rope_interleaved"),
)
MISTRAL = decoder_family(
    "mistral",
    {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 4096 * 32,
        "sliding_window": 4096,
    },
    arguments=mistral_arguments,
    weights=weights,
    fixed={"attention_bias": (False,), "mlp_bias": (False,)},
)
