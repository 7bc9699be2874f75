"""The families of checkpoints that can be loaded, by the `model_type` of their config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_attn.pretrained.bart import BART
from keras_attn.pretrained.bert import BERT
from keras_attn.pretrained.distilbert import DISTILBERT
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.gemma import GEMMA2, GEMMA3
from keras_attn.pretrained.gpt2 import GPT2
from keras_attn.pretrained.llama import LLAMA, MISTRAL
from keras_attn.pretrained.marian import MARIAN
from keras_attn.pretrained.modernbert import MODERNBERT
from keras_attn.pretrained.qwen import QWEN2, QWEN3
from keras_attn.pretrained.roberta import ROBERTA, XLM_ROBERTA
from keras_attn.pretrained.smollm3 import SMOLLM3
from keras_attn.pretrained.t5 import T5

ENCODERS = BERT, DISTILBERT, MODERNBERT, ROBERTA, XLM_ROBERTA
DECODERS = GEMMA2, GEMMA3, GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, SMOLLM3
ENCODER_DECODERS = BART, MARIAN, T5
FAMILIES: dict[str, Family] = {family.name: family for family in (*ENCODERS, *DECODERS, *ENCODER_DECODERS)}


def family_of(config: Mapping[str, Any]) -> Family:
    """Returns the family of a config; raises a `ValueError` for unknown ones and for code of its own."""
    name = config.get("model_type")
    if name not in FAMILIES:
        raise ValueError(f"`model_type` of config.json must be one of {sorted(FAMILIES)}. Received: {name!r}.")
    if config.get("auto_map"):
        raise ValueError(
            "config.json must be that of a model of transformers itself, not of one with code of its own. "
            f"Received: auto_map={config['auto_map']}."
        )
    return FAMILIES[name]
