"""RoBERTa (Liu et al. 2019, arXiv:1907.11692) and XLM-RoBERTa: BERT whose positions count the real ids only."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_attn.layers.norms import LayerNorm
from keras_attn.positions import Learned
from keras_attn.pretrained import bert
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.head_tables import HeadAndTable, hidden, text_labels, words
from keras_attn.pretrained.settings import Settings, first_given


def arguments(s: Settings) -> dict[str, Any]:
    position = Learned(max_length(s), offset=s["pad_token_id"] + 1)
    return {**bert.arguments(s), "position": position, "count_padding": False}


def max_length(s: Settings) -> int:
    return s["max_position_embeddings"] - s["pad_token_id"] - 1


def classification(s: Settings, num_labels: int) -> HeadAndTable:
    size, dropout = s["hidden_size"], first_given(s, "classifier_dropout", "hidden_dropout_prob")
    return text_labels("classifier.out_proj", size, num_labels, hidden("classifier.dense", size), dropout)


def masked_words(s: Settings, num_labels: int) -> HeadAndTable:
    norm = "lm_head.layer_norm", LayerNorm(s["layer_norm_eps"])
    return words("lm_head.decoder", s, hidden("lm_head.dense", s["hidden_size"], "gelu", norm))


ROBERTA = Family(
    name="roberta",
    prefixes=("roberta.",),
    defaults={**bert.DEFAULTS, "vocab_size": 50265, "pad_token_id": 1},
    arguments=arguments,
    weights=bert.weights,
    heads={**bert.BERT.heads, "classification": classification, "masked_words": masked_words},
    max_length=max_length,
    known=r"embeddings\.(position_ids|token_type_ids)|(pooler|lm_head|classifier|qa_outputs)\..*",
    tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight"},
    fallbacks={
        "embeddings.word_embeddings.weight": "lm_head.decoder.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    positions_of_padding=True,
)
XLM_ROBERTA = dataclasses.replace(ROBERTA, name="xlm-roberta", defaults={**bert.DEFAULTS, "pad_token_id": 1})
