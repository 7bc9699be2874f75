"""T5 (Raffel et al. 2020, arXiv:1910.10683), T5 1.1 and Flan-T5 (arXiv:2210.11416)."""

from __future__ import annotations

from typing import Any

from keras_attn.attention import DotProduct
from keras_attn.base.types import Activation
from keras_attn.layers.norms import RMSNorm
from keras_attn.models import Embeddings
from keras_attn.positions import NoPosition, RelativeBias
from keras_attn.pretrained import encoder_decoder_tables as shared
from keras_attn.pretrained.settings import Settings, activation_of
from keras_attn.pretrained.tables import Norm, Rows, Table
from keras_attn.transformer import FeedForward, GatedFeedForward, PreNorm

BUCKETS, DISTANCE = "relative_attention_num_buckets", "relative_attention_max_distance"
COPIES = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"


def feed_forward_kind(s: Settings) -> tuple[bool, Activation]:
    """Returns whether the feed-forward layers are gated, and their activation."""
    name = s["feed_forward_proj"]
    activation = s["dense_act_fn"] or {"gated-gelu": "gelu_new"}.get(name, name.removeprefix("gated-"))
    gated = name.startswith("gated-") if s["is_gated_act"] is None else s["is_gated_act"]
    return gated, activation_of(Settings(feed_forward_proj=activation), "feed_forward_proj")


def blocks_of(s: Settings, side: str) -> list[Any]:
    rate, (gated, activation) = s["dropout_rate"], feed_forward_kind(s)
    kind = GatedFeedForward if gated else FeedForward
    feed_forward = kind(s["d_ff"], activation, rate, use_bias=False, name="feed_forward")
    residual, score = PreNorm(RMSNorm(s["layer_norm_epsilon"])), DotProduct(scale=1.0)
    one = shared.block(side, s["num_heads"], feed_forward, residual, (rate, rate), s["d_kv"], score, use_bias=False)
    return [one] * num_layers(s, side)


def num_layers(s: Settings, side: str) -> int:
    return s["num_layers"] if side == "encoder" or s["num_decoder_layers"] is None else s["num_decoder_layers"]


def arguments(s: Settings) -> dict[str, Any]:
    return {
        "source_vocabulary_size": s["vocab_size"],
        "target_vocabulary_size": s["vocab_size"],
        "size": s["d_model"],
        "dropout": s["dropout_rate"],
        "position": NoPosition(),
        "embeddings": Embeddings(scale=1.0, shared=True),
        **{f"{side}_block": blocks_of(s, side) for side in shared.SIDES},
        "encoder_position": RelativeBias(s[BUCKETS], s[DISTANCE], name="position"),
        "decoder_position": RelativeBias(s[BUCKETS], s[DISTANCE], bidirectional=False, name="position"),
    }


def stack_table(s: Settings, side: str) -> Table:
    """Returns the table of a stack, except its final norm."""
    sizes = s["d_model"], s["num_heads"] * s["d_kv"], s["d_ff"]
    layers = [f"{side}.block.{{i}}.layer.{k}." for k in range(3 if side == "decoder" else 2)]
    gated, dense = feed_forward_kind(s)[0], f"{layers[-1]}DenseReluDense."
    maps = {"hidden_projection": f"{dense}wi_1" if gated else f"{dense}wi", "out_projection": f"{dense}wo"}
    maps |= {"gate_projection": f"{dense}wi_0"} if gated else {}
    kinds = f"{layers[0]}SelfAttention.", f"{layers[1]}EncDecAttention."
    attentions, norms = [[kind + part for part in "qkvo"] for kind in kinds], [f"{layer}layer_norm" for layer in layers]
    relative = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
    return {
        f"{side}.position": Rows(relative, s[BUCKETS], s["num_heads"]),
        **shared.stack_table(side, num_layers(s, side), attentions, norms, maps, sizes, bias=False),
    }


def weights(s: Settings) -> Table:
    size, scaled = s["d_model"], s["scale_decoder_outputs"]
    if scaled is None:  # T5 1.1 and Flan-T5 are not tied, and do not scale
        scaled = s.given.get("tie_word_embeddings") is not False
    factor = size**-0.5 if scaled else 1.0
    return {
        "target_embedding": Rows("shared", s["vocab_size"], size, COPIES),
        **stack_table(s, "encoder"),
        "encoder.final_norm": Norm("encoder.final_layer_norm", size, bias=False),
        **stack_table(s, "decoder"),
        "decoder.final_norm": Norm("decoder.final_layer_norm", size, bias=False, factor=factor),
    }


T5 = shared.encoder_decoder(
    "t5",
    prefixes=("transformer.",),
    defaults={
        "vocab_size": 32128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_heads": 8,
        BUCKETS: 32,
        DISTANCE: 128,
        "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
        "pad_token_id": 0,
        "tie_word_embeddings": True,
        **dict.fromkeys(("num_decoder_layers", "dense_act_fn", "is_gated_act", "scale_decoder_outputs")),
    },
    arguments=arguments,
    weights=weights,
    heads={"text_to_text": shared.text_to_text},
    known=r"lm_head\.weight|decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    max_length=lambda s: 2**31 - 1,  # the model has no limit
    names={"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"},
    tied={"lm_head.weight": "shared.weight"},
    fallbacks={"shared.weight": (*COPIES, "lm_head.weight"), "lm_head.weight": "shared.weight"},
    ignored=("classifier_dropout", "n_positions"),
)
