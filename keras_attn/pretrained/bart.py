"""BART (Lewis et al. 2019, arXiv:1910.13461)."""

from __future__ import annotations

from typing import Any

from keras_attn.layers import norms
from keras_attn.models import Embeddings
from keras_attn.positions import Learned
from keras_attn.pretrained import encoder_decoder_tables as shared
from keras_attn.pretrained.settings import Settings, activation_of
from keras_attn.pretrained.tables import Norm, Rows, Table
from keras_attn.transformer import FeedForward, PostNorm

SIZES = {"layers": 12, "ffn_dim": 4096, "attention_heads": 16}
DEFAULTS: dict[str, Any] = {
    **{f"{side}_{name}": value for side in shared.SIDES for name, value in SIZES.items()},
    "vocab_size": 50265,
    "max_position_embeddings": 1024,
    "activation_function": "gelu",
    "d_model": 1024,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "scale_embedding": False,
    "pad_token_id": 1,
    "tie_word_embeddings": True,
}
ATTENTIONS = "self_attn", "encoder_attn"
OFFSET = 2  # rows of the table of positions before that of position 0
EMBEDDINGS = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
IGNORED = """
    add_bias_logits classif_dropout classifier_dropout decoder_layerdrop encoder_layerdrop
    force_bos_token_to_be_generated init_std replacing_rate student_decoder_layers student_encoder_layers
"""


def blocks_of(s: Settings, side: str) -> list[Any]:
    activation = activation_of(s, "activation_function")
    feed_forward = FeedForward(s[f"{side}_ffn_dim"], activation, s["activation_dropout"], name="feed_forward")
    dropout = s["dropout"], s["attention_dropout"]
    return [shared.block(side, s[f"{side}_attention_heads"], feed_forward, PostNorm(), dropout)] * s[f"{side}_layers"]


def embeddings(s: Settings, norm: norms.Norm | None = None) -> Embeddings:
    return Embeddings(s["d_model"] ** 0.5 if s["scale_embedding"] else 1.0, norm, shared.is_shared(s))


def arguments(s: Settings) -> dict[str, Any]:
    return {
        "source_vocabulary_size": s["vocab_size"],
        "target_vocabulary_size": shared.target_size(s),
        "size": s["d_model"],
        "dropout": s["dropout"],
        "position": Learned(s["max_position_embeddings"], offset=OFFSET),
        "embeddings": embeddings(s, norms.LayerNorm()),
        **{f"{side}_block": blocks_of(s, side) for side in shared.SIDES},
    }


def stack_table(s: Settings, side: str) -> Table:
    """Returns the table of the blocks of a side."""
    size, theirs = s["d_model"], f"{side}.layers.{{i}}."
    kinds = (*ATTENTIONS, "final") if side == "decoder" else (ATTENTIONS[0], "final")
    return shared.stack_table(
        side,
        s[f"{side}_layers"],
        [[f"{theirs}{kind}.{part}_proj" for part in ("q", "k", "v", "out")] for kind in ATTENTIONS],
        [f"{theirs}{kind}_layer_norm" for kind in kinds],
        {"hidden_projection": f"{theirs}fc1", "out_projection": f"{theirs}fc2"},
        (size, size, s[f"{side}_ffn_dim"]),
        bias=True,
    )


def weights(s: Settings) -> Table:
    """Returns the table of the embeddings and of both stacks, which is also that of Marian."""
    return {**shared.embeddings_table(s), **stack_table(s, "encoder"), **stack_table(s, "decoder")}


def bart_weights(s: Settings) -> Table:
    table, rows = weights(s), s["max_position_embeddings"] + OFFSET
    for ours, theirs in (("source", "encoder"), ("target", "decoder")):
        table[f"{ours}_position.embedding"] = Rows(f"{theirs}.embed_positions", rows, s["d_model"])
        table[f"{ours}_norm"] = Norm(f"{theirs}.layernorm_embedding", s["d_model"])
    return table


BART = shared.encoder_decoder(
    "bart",
    prefixes=("model.",),
    defaults=DEFAULTS,
    arguments=arguments,
    weights=bart_weights,
    heads={"text_to_text": shared.biased_text_to_text},
    known=r"(encoder|decoder)\.(embed_tokens\.weight|version)|(shared|lm_head)\.weight|classification_head\..*",
    names={
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    },
    tied=dict.fromkeys(("lm_head.weight", *EMBEDDINGS), "shared.weight"),
    fallbacks={
        "shared.weight": ("lm_head.weight", *EMBEDDINGS),
        EMBEDDINGS[0]: "shared.weight",
        EMBEDDINGS[1]: ("shared.weight", "lm_head.weight"),
    },
    fixed={
        "add_final_layer_norm": (False,),
        "extra_pos_embeddings": (OFFSET,),
        "normalize_before": (False,),
        "normalize_embedding": (True,),
        "static_position_embeddings": (False,),
    },
    ignored=tuple(IGNORED.split()),
)
