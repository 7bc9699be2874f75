"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108): BERT without token types and pooler, with names of its own."""

from __future__ import annotations

from typing import Any

from keras_attn.base.norms import LayerNorm
from keras_attn.models.heads import Classification, MaskedWords, TokenClassification, Transform
from keras_attn.pretrained import bert
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.settings import Settings, activation_of
from keras_attn.pretrained.weights import Linear, Norm, Rows, Table, Vector, blocks

NAMES = {  # of BERT's settings
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}


def as_bert(s: Settings) -> Settings:
    """Returns the settings by the names of BERT's."""
    return {**s, **{name: s[own] for name, own in NAMES.items()}, "type_vocab_size": 0, "layer_norm_eps": 1e-12}


def arguments(s: Settings) -> dict[str, Any]:
    return bert.arguments(as_bert(s))


def weights(s: Settings) -> Table:
    size, hidden = s["dim"], s["hidden_dim"]
    theirs = "transformer.layer.{i}."
    block = {
        "attention.in_projection": Linear(tuple(f"{theirs}attention.{part}_lin" for part in "qkv"), size, size),
        "attention.out_projection": Linear(f"{theirs}attention.out_lin", size, size),
        "norms.0": Norm(f"{theirs}sa_layer_norm", size),
        "feed_forward.hidden_projection": Linear(f"{theirs}ffn.lin1", size, hidden),
        "feed_forward.out_projection": Linear(f"{theirs}ffn.lin2", hidden, size),
        "norms.1": Norm(f"{theirs}output_layer_norm", size),
    }
    return {
        "source_embedding": Rows("embeddings.word_embeddings", s["vocab_size"], size),
        "source_position.embedding": Rows("embeddings.position_embeddings", s["max_position_embeddings"], size),
        "source_norm": Norm("embeddings.LayerNorm", size),
        **blocks(s["n_layers"], "encoder.blocks.{i}", block),
    }


def classification(s: Settings, num_labels: int) -> tuple[Classification, Table]:
    size = s["dim"]
    table: Table = {
        "transform": Linear("pre_classifier", size, size),
        "labels": Linear("classifier", size, num_labels),
    }
    transform = Transform(activation="relu")
    return Classification(num_labels, transform=transform, dropout=s["seq_classif_dropout"]), table


def token_classification(s: Settings, num_labels: int) -> tuple[TokenClassification, Table]:
    return TokenClassification(num_labels, dropout=s["dropout"]), {"labels": Linear("classifier", s["dim"], num_labels)}


def masked_words(s: Settings, num_labels: int) -> tuple[MaskedWords, Table]:
    size, words, tied = s["dim"], s["vocab_size"], s["tie_word_embeddings"]
    table: Table = {
        "transform": Linear("vocab_transform", size, size),
        "transform_norm": Norm("vocab_layer_norm", size),
        **({"bias": Vector("vocab_projector.bias", words)} if tied else {}),
        **({} if tied else {"projection": Linear("vocab_projector", size, words)}),
    }
    return MaskedWords(Transform(activation=activation_of(s, "activation"), norm=LayerNorm(1e-12)), tied), table


DISTILBERT = Family(
    name="distilbert",
    prefixes=("distilbert.",),
    defaults={
        **{own: bert.DEFAULTS[name] for name, own in NAMES.items()},
        **{name: bert.DEFAULTS[name] for name in ("vocab_size", "max_position_embeddings", "pad_token_id")},
        "n_layers": 6,
        "seq_classif_dropout": 0.2,
        "tie_word_embeddings": True,
    },
    arguments=arguments,
    weights=weights,
    heads={
        "classification": classification,
        "token_classification": token_classification,
        "masked_words": masked_words,
    },
    max_length=lambda s: s["max_position_embeddings"],
    known=r"embeddings\.position_ids|(vocab_|pre_classifier|classifier|qa_outputs).*",
    tied={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
    fallbacks={"embeddings.word_embeddings.weight": "vocab_projector.weight"},
    ignored=("sinusoidal_pos_embds", "qa_dropout", "tie_weights_"),  # the sinusoids are among the weights
)
