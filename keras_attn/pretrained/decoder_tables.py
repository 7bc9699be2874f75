"""What the decoders built like Llama have in common: attention, blocks, head, and the tables of their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_attn.attention import DotProduct, MultiHeadSelfAttention
from keras_attn.layers.norms import RMSNorm
from keras_attn.masks import Causal, Pattern, Window
from keras_attn.models import CausalTransformer, Embeddings, LanguageHead
from keras_attn.positions import HeadPosition, NoPosition
from keras_attn.pretrained import rotary
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.head_tables import HeadAndTable
from keras_attn.pretrained.settings import Settings, activation_of
from keras_attn.pretrained.tables import Linear, Norm, Rows, Table, blocks
from keras_attn.transformer import EncoderBlock, GatedFeedForward, PreNorm, Residual

DEFAULTS: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "pad_token_id": None,
    "tie_word_embeddings": False,
    **rotary.DEFAULTS,
}
"""The settings that the functions of this file read, with the defaults of Llama."""

KINDS = "full_attention", "sliding_attention"
NORMS = {"norms.0": "input_layernorm", "norms.1": "post_attention_layernorm"}


def sizes(s: Settings) -> tuple[int, int, int]:
    """Returns the number of query heads, that of key and value heads, and the head size."""
    heads = s["num_attention_heads"]
    return heads, s["num_key_value_heads"] or heads, s["head_dim"] or s["hidden_size"] // heads


def layer_types(s: Settings, default: Sequence[str]) -> list[str]:
    """Returns the kind of attention of each block: `layer_types` of the config, or `default`."""
    types = list(s["layer_types"] or default)
    if len(types) != s["num_hidden_layers"] or set(types) - set(KINDS):
        raise ValueError(
            f"`layer_types` of config.json must hold {s['num_hidden_layers']} of {KINDS}. Received: {types}."
        )
    return types


def pattern(s: Settings, kind: str) -> Pattern:
    """Returns the mask of a kind of attention."""
    return Causal() & Window(s["sliding_window"]) if kind == "sliding_attention" else Causal()


def attention(
    s: Settings,
    mask: Pattern,
    position: HeadPosition | None,
    score: DotProduct | None = None,
    use_bias: bool | list[str] = False,
) -> MultiHeadSelfAttention:
    """Returns the attention of one block."""
    heads, kv_heads, head_size = sizes(s)
    return MultiHeadSelfAttention(
        heads,
        head_size,
        kv_heads,
        mask=mask,
        position=position,
        score=score,
        dropout=s["attention_dropout"],
        use_bias=use_bias,
        name="attention",
    )


def arguments(
    s: Settings,
    attentions: Sequence[MultiHeadSelfAttention],
    residual: Residual | None = None,
    embedding_scale: float = 1.0,
) -> dict[str, Any]:
    """Returns the arguments of `CausalTransformer` for the attention of each block; pre-norm by default."""
    hidden, activation = s["intermediate_size"], activation_of(s, "hidden_act")
    residual = residual or PreNorm(RMSNorm(s["rms_norm_eps"]))

    def block(attention: MultiHeadSelfAttention) -> EncoderBlock:
        gated = GatedFeedForward(hidden, activation, use_bias=s["mlp_bias"], name="feed_forward")
        return EncoderBlock(
            attention.num_heads, hidden, 0.0, residual=residual, feed_forward=gated, attention=attention
        )

    return {
        "vocabulary_size": s["vocab_size"],
        "size": s["hidden_size"],
        "dropout": 0.0,
        "position": NoPosition(),
        "embeddings": Embeddings(scale=embedding_scale),
        "block": [block(each) for each in attentions],
    }


def weights(
    s: Settings,
    norms: Mapping[str, str] = NORMS,
    offset: float = 0.0,
    normed_heads: bool = False,
    bias: tuple[bool, bool] = (False, False),
) -> Table:
    """Returns the table of a decoder's weights, without those of its head.

    Args:
        s: The settings.
        norms: Paths of a block's norms, and the names of theirs.
        offset: As for `Norm`.
        normed_heads: Whether queries and keys have norms.
        bias: Whether the projections into the heads have a bias, and those out of them.
    """
    size, hidden, inner = s["hidden_size"], s["intermediate_size"], s["mlp_bias"]
    heads, kv_heads, head_size = sizes(s)
    theirs, widths = "layers.{i}.self_attn.", (heads * head_size, kv_heads * head_size, kv_heads * head_size)
    names = f"{theirs}q_proj", f"{theirs}k_proj", f"{theirs}v_proj"
    table: Table = {
        "attention.in_projection": Linear(names, size, widths, bias[0]),
        "attention.out_projection": Linear(f"{theirs}o_proj", heads * head_size, size, bias[1]),
        **{ours: Norm(f"layers.{{i}}.{name}", size, False, offset) for ours, name in norms.items()},
        "feed_forward.gate_projection": Linear("layers.{i}.mlp.gate_proj", size, hidden, inner),
        "feed_forward.hidden_projection": Linear("layers.{i}.mlp.up_proj", size, hidden, inner),
        "feed_forward.out_projection": Linear("layers.{i}.mlp.down_proj", hidden, size, inner),
    }
    if normed_heads:
        table["attention.query_norm"] = Norm(f"{theirs}q_norm", head_size, False, offset)
        table["attention.key_norm"] = Norm(f"{theirs}k_norm", head_size, False, offset)
    return {
        "target_embedding": Rows("embed_tokens", s["vocab_size"], size),
        **blocks(s["num_hidden_layers"], "blocks.blocks.{i}", table),
        "blocks.final_norm": Norm("norm", size, False, offset),
    }


def text_generation(s: Settings, num_labels: int) -> HeadAndTable:
    """Returns the head and the table of its weights."""
    tied = s["tie_word_embeddings"]
    head = LanguageHead(tied, use_bias=False, softcap=s.get("final_logit_softcapping"))
    return head, {} if tied else {"projection": Linear("lm_head", s["hidden_size"], s["vocab_size"], bias=False)}


def decoder_family(name: str, defaults: Mapping[str, Any], **named: Any) -> Family:
    """Returns a family of decoders; `named` are its other attributes."""
    return Family(
        name=name,
        prefixes=("model.",),
        defaults={**DEFAULTS, **defaults},
        heads={"text_generation": text_generation},
        known=r"lm_head\.weight|layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
        tied={"lm_head.weight": "embed_tokens.weight"},
        fallbacks={"embed_tokens.weight": "lm_head.weight"},
        recipe=CausalTransformer,
        **named,
    )
