"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108): BERT without token types and pooler, with names of its own."""

from __future__ import annotations

from keras_attn.layers.norms import LayerNorm
from keras_attn.pretrained import bert
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.head_tables import HeadAndTable, hidden, text_labels, token_labels, words
from keras_attn.pretrained.settings import Settings, activation_of
from keras_attn.pretrained.tables import Table

BLOCK = {  # what follows transformer.layer.{i}
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "hidden": "ffn.lin1",
    "output": "ffn.lin2",
    "output_norm": "output_layer_norm",
}


def weights(s: Settings) -> Table:
    return bert.weights(s, BLOCK, "transformer.layer.{i}.")


def classification(s: Settings, num_labels: int) -> HeadAndTable:
    size = s["hidden_size"]
    return text_labels("classifier", size, num_labels, hidden("pre_classifier", size, "relu"), s["seq_classif_dropout"])


def token_classification(s: Settings, num_labels: int) -> HeadAndTable:
    return token_labels("classifier", s["hidden_size"], num_labels, None, s["hidden_dropout_prob"])


def masked_words(s: Settings, num_labels: int) -> HeadAndTable:
    norm, activation = ("vocab_layer_norm", LayerNorm(1e-12)), activation_of(s, "hidden_act")
    return words("vocab_projector", s, hidden("vocab_transform", s["hidden_size"], activation, norm))


DISTILBERT = Family(
    name="distilbert",
    prefixes=("distilbert.",),
    defaults={**bert.DEFAULTS, "num_hidden_layers": 6, "type_vocab_size": 0, "seq_classif_dropout": 0.2},
    names={
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "hidden_dim": "intermediate_size",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
    },
    arguments=bert.arguments,
    weights=weights,
    heads={
        "classification": classification,
        "token_classification": token_classification,
        "masked_words": masked_words,
    },
    known=r"embeddings\.position_ids|(vocab_|pre_classifier|classifier|qa_outputs).*",
    tied={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
    fallbacks={"embeddings.word_embeddings.weight": "vocab_projector.weight"},
    ignored=("sinusoidal_pos_embds", "qa_dropout", "tie_weights_"),  # the sinusoids are among the weights
)
