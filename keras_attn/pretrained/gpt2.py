"""GPT-2 (Radford et al. 2019, Language Models are Unsupervised Multitask Learners)."""

from __future__ import annotations

from typing import Any

from keras_attn.attention import DotProduct, MultiHeadSelfAttention
from keras_attn.layers.norms import LayerNorm
from keras_attn.masks import Causal
from keras_attn.models import CausalTransformer, Embeddings, LanguageHead
from keras_attn.positions import Learned
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.head_tables import HeadAndTable
from keras_attn.pretrained.settings import Settings, activation_of
from keras_attn.pretrained.tables import InOut, Linear, Norm, Rows, Table, blocks
from keras_attn.transformer import EncoderBlock, PreNorm

SUMMARY = "summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout"


def inner_size(s: Settings) -> int:
    return s["n_inner"] or 4 * s["n_embd"]


def block(s: Settings, i: int) -> EncoderBlock:
    heads, size = s["n_head"], s["n_embd"]
    scale = (size // heads) ** -0.5 if s["scale_attn_weights"] else 1.0
    score = DotProduct(scale=scale / (i + 1) if s["scale_attn_by_inverse_layer_idx"] else scale)
    attention = MultiHeadSelfAttention(heads, mask=Causal(), score=score, dropout=s["attn_pdrop"], name="attention")
    return EncoderBlock(
        heads,
        inner_size(s),
        s["resid_pdrop"],
        residual=PreNorm(LayerNorm(s["layer_norm_epsilon"])),
        attention=attention,
        activation=activation_of(s, "activation_function"),
    )


def arguments(s: Settings) -> dict[str, Any]:
    return {
        "vocabulary_size": s["vocab_size"],
        "size": s["n_embd"],
        "dropout": s["embd_pdrop"],
        "position": Learned(s["n_positions"]),
        "embeddings": Embeddings(scale=1.0),
        "block": [block(s, i) for i in range(s["n_layer"])],
    }


def weights(s: Settings) -> Table:
    size, inner = s["n_embd"], inner_size(s)
    table: Table = {
        "attention.in_projection": InOut("h.{i}.attn.c_attn", size, 3 * size),
        "attention.out_projection": InOut("h.{i}.attn.c_proj", size, size),
        "norms.0": Norm("h.{i}.ln_1", size),
        "feed_forward.hidden_projection": InOut("h.{i}.mlp.c_fc", size, inner),
        "feed_forward.out_projection": InOut("h.{i}.mlp.c_proj", inner, size),
        "norms.1": Norm("h.{i}.ln_2", size),
    }
    return {
        "target_embedding": Rows("wte", s["vocab_size"], size),
        "target_position.embedding": Rows("wpe", s["n_positions"], size),
        **blocks(s["n_layer"], "blocks.blocks.{i}", table),
        "blocks.final_norm": Norm("ln_f", size),
    }


def text_generation(s: Settings, num_labels: int) -> HeadAndTable:
    tied = s["tie_word_embeddings"]
    table: Table = {} if tied else {"projection": Linear("lm_head", s["n_embd"], s["vocab_size"], bias=False)}
    return LanguageHead(tied, use_bias=False), table


GPT2 = Family(
    name="gpt2",
    prefixes=("transformer.",),
    defaults={
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_inner": None,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "pad_token_id": None,
        "tie_word_embeddings": True,
    },
    arguments=arguments,
    weights=weights,
    heads={"text_generation": text_generation},
    known=r"lm_head\.weight|h\.\d+\.attn\.(bias|masked_bias)",
    max_length=lambda s: s["n_positions"],
    names={
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
    tied={"lm_head.weight": "wte.weight"},
    fallbacks={"wte.weight": "lm_head.weight"},
    # `reorder_and_upcast_attn` changes the order of operations in half precision only.
    ignored=("n_ctx", "reorder_and_upcast_attn", *SUMMARY.split()),
    recipe=CausalTransformer,
)
