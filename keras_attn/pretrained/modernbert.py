"""ModernBERT (Warner et al. 2024, arXiv:2412.13663): rotary positions, pre-norm, gates, local and global attention."""

from __future__ import annotations

from typing import Any

from keras_attn.attention import MultiHeadSelfAttention
from keras_attn.layers.norms import LayerNorm, NoNorm
from keras_attn.masks import Window
from keras_attn.models.pooling import First, Mean
from keras_attn.positions import NoPosition
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.head_tables import HeadAndTable, Hidden, hidden, text_labels, token_labels, words
from keras_attn.pretrained.rotary import rotary
from keras_attn.pretrained.settings import Settings, activation_of
from keras_attn.pretrained.tables import Linear, Norm, Rows, Table, blocks
from keras_attn.transformer import EncoderBlock, GatedFeedForward, PreNorm

UNREAD = """
    deterministic_flash_attn layer_norm_eps reference_compile repad_logits_with_grad sparse_prediction
    sparse_pred_ignore_index unpad_inputs
"""
KINDS = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}


def layer_types(s: Settings) -> list[str]:
    """Returns the kind of attention of each block."""
    every, number = s["global_attn_every_n_layers"], s["num_hidden_layers"]
    types = s["layer_types"] or ["sliding_attention" if i % every else "full_attention" for i in range(number)]
    if len(types) != number or set(types) - set(KINDS):
        raise ValueError(f"`layer_types` must hold {number} of {sorted(KINDS)}. Received: layer_types={types}.")
    return types


def block(s: Settings, i: int, kind: str) -> EncoderBlock:
    heads, hidden, norm = s["num_attention_heads"], s["intermediate_size"], LayerNorm(s["norm_eps"], s["norm_bias"])
    attention = MultiHeadSelfAttention(
        heads,
        mask=Window(s["local_attention"] // 2 + 1) if kind == "sliding_attention" else None,
        position=rotary(s, kind, KINDS[kind]),
        dropout=s["attention_dropout"],
        use_bias=s["attention_bias"],
        name="attention",
    )
    activation = activation_of(s, "hidden_activation")
    feed_forward = GatedFeedForward(hidden, activation, s["mlp_dropout"], use_bias=s["mlp_bias"], name="feed_forward")
    residual = PreNorm([norm if i else NoNorm(), norm])
    return EncoderBlock(heads, hidden, 0.0, residual=residual, feed_forward=feed_forward, attention=attention)


def arguments(s: Settings) -> dict[str, Any]:
    return {
        "vocabulary_size": s["vocab_size"],
        "num_layers": s["num_hidden_layers"],
        "size": s["hidden_size"],
        "embedding_dropout": s["embedding_dropout"],
        "position": NoPosition(),
        "embedding_norm": LayerNorm(s["norm_eps"], s["norm_bias"]),
        "block": [block(s, i, kind) for i, kind in enumerate(layer_types(s))],
    }


def weights(s: Settings) -> Table:
    size, hidden, norm_bias, bias = s["hidden_size"], s["intermediate_size"], s["norm_bias"], s["mlp_bias"]
    theirs = "layers.{i}."
    table = {
        "attention.in_projection": Linear(f"{theirs}attn.Wqkv", size, 3 * size, s["attention_bias"]),
        "attention.out_projection": Linear(f"{theirs}attn.Wo", size, size, s["attention_bias"]),
        "norms.0": Norm(f"{theirs}attn_norm", size, norm_bias),
        "feed_forward.gate_projection": Linear(f"{theirs}mlp.Wi", size, 2 * hidden, bias, part=(0, 2)),
        "feed_forward.hidden_projection": Linear(f"{theirs}mlp.Wi", size, 2 * hidden, bias, part=(1, 2)),
        "feed_forward.out_projection": Linear(f"{theirs}mlp.Wo", hidden, size, bias),
        "norms.1": Norm(f"{theirs}mlp_norm", size, norm_bias),
    }
    table = blocks(s["num_hidden_layers"], "encoder.blocks.{i}", table)
    del table["encoder.blocks.0.norms.0"]
    return {
        "source_embedding": Rows("embeddings.tok_embeddings", s["vocab_size"], size),
        "source_norm": Norm("embeddings.norm", size, norm_bias),
        **table,
        "encoder.final_norm": Norm("final_norm", size, norm_bias),
    }


def hidden_layer(s: Settings) -> Hidden:
    """Returns the hidden layer of all heads."""
    norm, activation = LayerNorm(s["norm_eps"], s["norm_bias"]), activation_of(s, "classifier_activation")
    bias = s["classifier_bias"]
    return hidden("head.dense", s["hidden_size"], activation, ("head.norm", norm), bias, s["norm_bias"])


def classification(s: Settings, num_labels: int) -> HeadAndTable:
    pooling = {"cls": First(), "mean": Mean()}.get(s["classifier_pooling"])
    if pooling is None:
        raise ValueError(f"`classifier_pooling` must be cls or mean. Received: {s['classifier_pooling']!r}.")
    dropout = s["classifier_dropout"]
    return text_labels("classifier", s["hidden_size"], num_labels, hidden_layer(s), dropout, pooling)


def token_classification(s: Settings, num_labels: int) -> HeadAndTable:
    return token_labels("classifier", s["hidden_size"], num_labels, hidden_layer(s), s["classifier_dropout"])


def masked_words(s: Settings, num_labels: int) -> HeadAndTable:
    return words("decoder", s, hidden_layer(s), s["decoder_bias"])


MODERNBERT = Family(
    name="modernbert",
    prefixes=("model.",),
    defaults={
        "vocab_size": 50368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "hidden_activation": "gelu",
        "max_position_embeddings": 8192,
        "norm_eps": 1e-5,
        "norm_bias": False,
        "pad_token_id": 50283,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "layer_types": None,
        "global_attn_every_n_layers": 3,
        "rope_parameters": None,
        "rope_scaling": None,
        "global_rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
        "local_attention": 128,
        "embedding_dropout": 0.0,
        "mlp_bias": False,
        "mlp_dropout": 0.0,
        "decoder_bias": True,
        "classifier_pooling": "cls",
        "classifier_dropout": 0.0,
        "classifier_bias": False,
        "classifier_activation": "gelu",
        "tie_word_embeddings": True,
    },
    arguments=arguments,
    weights=weights,
    heads={
        "classification": classification,
        "token_classification": token_classification,
        "masked_words": masked_words,
    },
    known=r"(head|decoder|classifier|qa_outputs)\..*",
    tied={"decoder.weight": "embeddings.tok_embeddings.weight"},
    fallbacks={"embeddings.tok_embeddings.weight": "decoder.weight"},
    ignored=tuple(UNREAD.split()),
)
