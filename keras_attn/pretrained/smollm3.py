"""SmolLM 3 (Hugging Face 2025): a Llama in which every fourth block has no rotary positions."""

from __future__ import annotations

from typing import Any

from keras_attn.pretrained.decoder_tables import KINDS, arguments, attention, decoder_family, layer_types, pattern
from keras_attn.pretrained.llama import llama_weights
from keras_attn.pretrained.rotary import rotary
from keras_attn.pretrained.settings import Settings


def smollm3_arguments(s: Settings) -> dict[str, Any]:
    number, every = s["num_hidden_layers"], s["no_rope_layer_interval"]
    turned = s["no_rope_layers"] or [int((i + 1) % every != 0) for i in range(number)]  # 1 for rotary positions
    if len(turned) != number:
        raise ValueError(f"`no_rope_layers` of config.json must hold {number} numbers. Received: {turned}.")
    windowed = s["use_sliding_window"] and s["sliding_window"] is not None
    kinds = layer_types(s, [KINDS[windowed and not each] for each in turned])
    masks = [pattern(s, kind if windowed else KINDS[0]) for kind in kinds]
    positions = [rotary(s) if each else None for each in turned]
    bias = s["attention_bias"]
    return arguments(s, [attention(s, *each, use_bias=bias) for each in zip(masks, positions, strict=True)])


SMOLLM3 = decoder_family(
    "smollm3",
    {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rope_theta": 2000000.0,
        "pad_token_id": 128004,
        "use_sliding_window": False,
        "sliding_window": None,
        "layer_types": None,
        "no_rope_layers": None,
        "no_rope_layer_interval": 4,
        "tie_word_embeddings": True,
    },
    arguments=smollm3_arguments,
    weights=llama_weights,
    ignored=("max_window_layers", "pretraining_tp"),
)
