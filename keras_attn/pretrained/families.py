"""The families of checkpoints that can be loaded, by the `model_type` of their config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_attn.pretrained.bert import BERT
from keras_attn.pretrained.distilbert import DISTILBERT
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.modernbert import MODERNBERT
from keras_attn.pretrained.roberta import ROBERTA, XLM_ROBERTA

FAMILIES: dict[str, Family] = {family.name: family for family in (BERT, DISTILBERT, MODERNBERT, ROBERTA, XLM_ROBERTA)}


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
