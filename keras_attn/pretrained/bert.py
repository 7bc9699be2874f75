"""BERT and what is built like it (MiniLM, E5, BGE): Devlin et al. 2019, arXiv:1810.04805."""

from __future__ import annotations

from typing import Any

from keras_attn.attention import MultiHeadSelfAttention
from keras_attn.base.norms import LayerNorm
from keras_attn.models.heads import Classification, MaskedWords, TokenClassification, Transform
from keras_attn.positions import Learned
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.settings import Settings, activation_of, first_given
from keras_attn.pretrained.weights import Linear, Norm, Rows, Table, Vector, blocks
from keras_attn.transformer import EncoderBlock, PostNorm

DEFAULTS: Settings = {
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


def arguments(s: Settings) -> dict[str, Any]:
    norm = LayerNorm(s["layer_norm_eps"])
    heads, hidden = s["num_attention_heads"], s["intermediate_size"]
    attention = MultiHeadSelfAttention(heads, dropout=s["attention_probs_dropout_prob"], name="attention")
    return {
        "vocabulary_size": s["vocab_size"],
        "num_layers": s["num_hidden_layers"],
        "size": s["hidden_size"],
        "dropout": s["hidden_dropout_prob"],
        "num_segments": s["type_vocab_size"],
        "position": Learned(s["max_position_embeddings"]),
        "embedding_norm": norm,
        "block": EncoderBlock(
            heads,
            hidden,
            s["hidden_dropout_prob"],
            residual=PostNorm(norm),
            attention=attention,
            activation=activation_of(s, "hidden_act"),
        ),
    }


def weights(s: Settings) -> Table:
    size, hidden = s["hidden_size"], s["intermediate_size"]
    theirs = "encoder.layer.{i}."
    block = {
        "attention.in_projection": Linear(
            tuple(f"{theirs}attention.self.{part}" for part in ("query", "key", "value")), size, size
        ),
        "attention.out_projection": Linear(f"{theirs}attention.output.dense", size, size),
        "norms.0": Norm(f"{theirs}attention.output.LayerNorm", size),
        "feed_forward.hidden_projection": Linear(f"{theirs}intermediate.dense", size, hidden),
        "feed_forward.out_projection": Linear(f"{theirs}output.dense", hidden, size),
        "norms.1": Norm(f"{theirs}output.LayerNorm", size),
    }
    return {
        "source_embedding": Rows("embeddings.word_embeddings", s["vocab_size"], size),
        "source_position.embedding": Rows("embeddings.position_embeddings", s["max_position_embeddings"], size),
        "segments_embedding": Rows("embeddings.token_type_embeddings", s["type_vocab_size"], size),
        "source_norm": Norm("embeddings.LayerNorm", size),
        **blocks(s["num_hidden_layers"], "encoder.blocks.{i}", block),
    }


def classification(s: Settings, num_labels: int) -> tuple[Classification, Table]:
    size, dropout = s["hidden_size"], first_given(s, "classifier_dropout", "hidden_dropout_prob")
    table: Table = {"transform": Linear("pooler.dense", size, size), "labels": Linear("classifier", size, num_labels)}
    return Classification(num_labels, transform=Transform(), dropout=dropout), table


def token_classification(s: Settings, num_labels: int) -> tuple[TokenClassification, Table]:
    dropout = first_given(s, "classifier_dropout", "hidden_dropout_prob")
    table: Table = {"labels": Linear("classifier", s["hidden_size"], num_labels)}
    return TokenClassification(num_labels, dropout=dropout), table


def masked_words(s: Settings, num_labels: int) -> tuple[MaskedWords, Table]:
    size, words, tied = s["hidden_size"], s["vocab_size"], s["tie_word_embeddings"]
    transform = Transform(activation=activation_of(s, "hidden_act"), norm=LayerNorm(s["layer_norm_eps"]))
    theirs = "cls.predictions"
    table: Table = {
        "transform": Linear(f"{theirs}.transform.dense", size, size),
        "transform_norm": Norm(f"{theirs}.transform.LayerNorm", size),
        **({"bias": Vector(f"{theirs}.decoder.bias", words)} if tied else {}),
        **({} if tied else {"projection": Linear(f"{theirs}.decoder", size, words)}),
    }
    return MaskedWords(transform, tied), table


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
    max_length=lambda s: s["max_position_embeddings"],
    known=r"embeddings\.(position_ids|token_type_ids)|pooler\..*|cls\..*|classifier\..*|qa_outputs\..*",
    tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"},
    fallbacks={
        "embeddings.word_embeddings.weight": "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
