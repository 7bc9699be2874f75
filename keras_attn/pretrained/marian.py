"""Marian (Junczys-Dowmunt et al. 2018, arXiv:1804.00344), the translators of OPUS-MT: BART with sinusoids."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_attn.positions import Sinusoidal
from keras_attn.pretrained import bart
from keras_attn.pretrained.settings import Settings


def arguments(s: Settings) -> dict[str, Any]:
    return {**bart.arguments(s), "position": Sinusoidal(interleaved=False), "embeddings": bart.embeddings(s)}


MARIAN = dataclasses.replace(
    bart.BART,
    name="marian",
    defaults={
        **bart.DEFAULTS,
        "vocab_size": 58101,
        "decoder_vocab_size": None,
        "share_encoder_decoder_embeddings": True,
        "pad_token_id": 58100,
    },
    arguments=arguments,
    weights=bart.weights,
    known=rf"{bart.BART.known}|(encoder|decoder)\.embed_positions\.weight",  # checkpoints may hold the sinusoids
    fixed={**bart.BART.fixed, "normalize_embedding": (False,), "static_position_embeddings": (True,)},
    tied={**bart.BART.tied, "lm_head.weight": bart.EMBEDDINGS[1], "shared.weight": "lm_head.weight"},
    ignored=(*bart.BART.ignored, "extra_pos_embeddings"),
)
