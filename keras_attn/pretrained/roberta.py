"""RoBERTa (Liu et al. 2019, arXiv:1907.11692) and XLM-RoBERTa: BERT whose positions count the real ids only."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_attn.base.norms import LayerNorm
from keras_attn.models.heads import Classification, MaskedWords, TokenClassification, Transform
from keras_attn.positions import Learned
from keras_attn.pretrained import bert
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.settings import Settings, first_given
from keras_attn.pretrained.weights import Linear, Norm, Table, Vector


def arguments(s: Settings) -> dict[str, Any]:
    offset = s["pad_token_id"] + 1
    return {
        **bert.arguments(s),
        "position": Learned(max_length(s), offset),
        "count_padding": False,
    }


def max_length(s: Settings) -> int:
    return s["max_position_embeddings"] - s["pad_token_id"] - 1


def classification(s: Settings, num_labels: int) -> tuple[Classification, Table]:
    size, dropout = s["hidden_size"], first_given(s, "classifier_dropout", "hidden_dropout_prob")
    table: Table = {
        "transform": Linear("classifier.dense", size, size),
        "labels": Linear("classifier.out_proj", size, num_labels),
    }
    return Classification(num_labels, transform=Transform(), dropout=dropout), table


def token_classification(s: Settings, num_labels: int) -> tuple[TokenClassification, Table]:
    return bert.token_classification(s, num_labels)


def masked_words(s: Settings, num_labels: int) -> tuple[MaskedWords, Table]:
    size, words, tied = s["hidden_size"], s["vocab_size"], s["tie_word_embeddings"]
    table: Table = {
        "transform": Linear("lm_head.dense", size, size),
        "transform_norm": Norm("lm_head.layer_norm", size),
        **({"bias": Vector("lm_head.decoder.bias", words)} if tied else {}),
        **({} if tied else {"projection": Linear("lm_head.decoder", size, words)}),
    }
    return MaskedWords(Transform(activation="gelu", norm=LayerNorm(s["layer_norm_eps"])), tied), table


ROBERTA = Family(
    name="roberta",
    prefixes=("roberta.",),
    defaults={**bert.DEFAULTS, "vocab_size": 50265, "pad_token_id": 1},
    arguments=arguments,
    weights=bert.weights,
    heads={
        "classification": classification,
        "token_classification": token_classification,
        "masked_words": masked_words,
    },
    max_length=max_length,
    known=r"embeddings\.(position_ids|token_type_ids)|pooler\..*|lm_head\..*|classifier\..*|qa_outputs\..*",
    tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight"},
    fallbacks={
        "embeddings.word_embeddings.weight": "lm_head.decoder.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    positions_of_padding=True,
)
XLM_ROBERTA = dataclasses.replace(ROBERTA, name="xlm-roberta", defaults={**ROBERTA.defaults, "vocab_size": 30522})
