"""BERT and what is built like it (MiniLM, E5, BGE): Devlin et al. 2019, arXiv:1810.04805."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_attn.attention import MultiHeadSelfAttention
from keras_attn.layers.norms import LayerNorm
from keras_attn.positions import Learned
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.head_tables import HeadAndTable, hidden, text_labels, token_labels, words
from keras_attn.pretrained.settings import Settings, activation_of, first_given
from keras_attn.pretrained.tables import Linear, Norm, Rows, Table, blocks
from keras_attn.transformer import EncoderBlock, PostNorm

DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}
BLOCK = {  # what follows encoder.layer.{i}
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "hidden": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}


def arguments(s: Settings) -> dict[str, Any]:
    norm, dropout = LayerNorm(s["layer_norm_eps"]), s["hidden_dropout_prob"]
    heads, activation = s["num_attention_heads"], activation_of(s, "hidden_act")
    attention = MultiHeadSelfAttention(heads, dropout=s["attention_probs_dropout_prob"], name="attention")
    residual, inner = PostNorm(norm), s["intermediate_size"]
    return {
        "vocabulary_size": s["vocab_size"],
        "num_layers": s["num_hidden_layers"],
        "size": s["hidden_size"],
        "dropout": dropout,
        "num_segments": s["type_vocab_size"],
        "position": Learned(s["max_position_embeddings"]),
        "embedding_norm": norm,
        "block": EncoderBlock(heads, inner, dropout, residual=residual, attention=attention, activation=activation),
    }


def weights(s: Settings, block: Mapping[str, str] = BLOCK, prefix: str = "encoder.layer.{i}.") -> Table:
    size, inner, types = s["hidden_size"], s["intermediate_size"], s["type_vocab_size"]
    names = {ours: prefix + theirs for ours, theirs in block.items()}
    table: Table = {
        "attention.in_projection": Linear((names["query"], names["key"], names["value"]), size, size),
        "attention.out_projection": Linear(names["out"], size, size),
        "norms.0": Norm(names["attention_norm"], size),
        "feed_forward.hidden_projection": Linear(names["hidden"], size, inner),
        "feed_forward.out_projection": Linear(names["output"], inner, size),
        "norms.1": Norm(names["output_norm"], size),
    }
    return {
        "source_embedding": Rows("embeddings.word_embeddings", s["vocab_size"], size),
        "source_position.embedding": Rows("embeddings.position_embeddings", s["max_position_embeddings"], size),
        **({"segments_embedding": Rows("embeddings.token_type_embeddings", types, size)} if types else {}),
        "source_norm": Norm("embeddings.LayerNorm", size),
        **blocks(s["num_hidden_layers"], "encoder.blocks.{i}", table),
    }


def classification(s: Settings, num_labels: int) -> HeadAndTable:
    dropout = first_given(s, "classifier_dropout", "hidden_dropout_prob")
    return text_labels("classifier", s["hidden_size"], num_labels, hidden("pooler.dense", s["hidden_size"]), dropout)


def token_classification(s: Settings, num_labels: int) -> HeadAndTable:
    dropout = first_given(s, "classifier_dropout", "hidden_dropout_prob")
    return token_labels("classifier", s["hidden_size"], num_labels, None, dropout)


def masked_words(s: Settings, num_labels: int) -> HeadAndTable:
    norm = "cls.predictions.transform.LayerNorm", LayerNorm(s["layer_norm_eps"])
    activation = activation_of(s, "hidden_act")
    return words(
        "cls.predictions.decoder", s, hidden("cls.predictions.transform.dense", s["hidden_size"], activation, norm)
    )


BERT = Family(
    name="bert",
    prefixes=("bert.",),
    defaults=DEFAULTS,
    arguments=arguments,
    weights=weights,
    heads={
        "classification": classification,
        "token_classification": token_classification,
        "masked_words": masked_words,
    },
    known=r"embeddings\.(position_ids|token_type_ids)|(pooler|cls|classifier|qa_outputs)\..*",
    tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"},
    fallbacks={
        "embeddings.word_embeddings.weight": "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
