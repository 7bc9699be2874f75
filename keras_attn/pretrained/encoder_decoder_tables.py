"""What the encoder-decoders have in common: their blocks, and the tables of their weights."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.attention import DotProduct, EncoderDecoderAttention, MultiHeadSelfAttention
from keras_attn.masks import Causal
from keras_attn.models import LanguageHead, Transformer
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.head_tables import HeadAndTable
from keras_attn.pretrained.settings import Settings
from keras_attn.pretrained.tables import BiasedLogits, Linear, LogitsBias, Norm, Rows, Table, blocks
from keras_attn.transformer import DecoderBlock, EncoderBlock, Residual

SIDES = "encoder", "decoder"


def block(
    side: str,
    num_heads: int,
    feed_forward: keras.layers.Layer,
    residual: Residual,
    dropout: tuple[float, float],
    head_size: int | None = None,
    score: DotProduct | None = None,
    use_bias: bool = True,
) -> EncoderBlock | DecoderBlock:
    """Returns a block of the encoder or the decoder.

    Args:
        side: `"encoder"` or `"decoder"`.
        num_heads, feed_forward, residual: As for the blocks.
        dropout: Rates of the outputs of the sublayers and of the scores.
        head_size, score, use_bias: As for `MultiHeadSelfAttention`.
    """
    rate, scores_rate = dropout
    mask = Causal() if side == "decoder" else None
    attention = MultiHeadSelfAttention(
        num_heads, head_size, mask=mask, score=score, dropout=scores_rate, use_bias=use_bias, name="attention"
    )
    hidden = feed_forward.hidden_size
    if side == "encoder":
        return EncoderBlock(num_heads, hidden, rate, residual=residual, feed_forward=feed_forward, attention=attention)
    memory_attention = EncoderDecoderAttention(
        num_heads, head_size, score=score, dropout=scores_rate, use_bias=use_bias, name="memory_attention"
    )
    return DecoderBlock(
        num_heads,
        hidden,
        rate,
        residual=residual,
        feed_forward=feed_forward,
        attention=attention,
        memory_attention=memory_attention,
    )


def stack_table(
    side: str,
    number: int,
    attentions: list[list[str]],
    norms: list[str],
    feed_forward: dict[str, str],
    sizes: tuple[int, int, int],
    bias: bool,
) -> Table:
    """Returns the table of the blocks of a side, by names of theirs with `{i}` for the number of the block.

    Args:
        side: `"encoder"` or `"decoder"`.
        number: Number of blocks.
        attentions: Names of the maps of queries, keys, values and outputs of the self-attention, and those of the
            encoder-decoder attention, which only the decoder has.
        norms: Names of the norms.
        feed_forward: Names of ours and theirs of the maps of the feed-forward layer.
        sizes: Sizes of the model, of all heads together and of the feed-forward layer.
        bias: Whether maps and norms have biases.
    """
    size, width, hidden = sizes
    (*into, out), (query, key, value, memory_out) = attentions
    table: Table = {
        "attention.in_projection": Linear(tuple(into), size, width, bias),
        "attention.out_projection": Linear(out, width, size, bias),
    }
    if side == "decoder":
        table["memory_attention.query_projection"] = Linear(query, size, width, bias)
        table["memory_attention.memory_projection"] = Linear((key, value), size, width, bias)
        table["memory_attention.out_projection"] = Linear(memory_out, width, size, bias)
    for ours, theirs in feed_forward.items():
        inputs, outputs = (hidden, size) if ours == "out_projection" else (size, hidden)
        table[f"feed_forward.{ours}"] = Linear(theirs, inputs, outputs, bias)
    table |= {f"norms.{i}": Norm(name, size, bias) for i, name in enumerate(norms)}
    return blocks(number, f"{side}.blocks.{{i}}", table)


def is_shared(s: Settings) -> bool:
    """Returns whether there is one matrix for both sides: untied checkpoints have one for each."""
    return s["tie_word_embeddings"] and s.get("share_encoder_decoder_embeddings", True)


def target_size(s: Settings) -> int:
    """Returns the number of ids of the target."""
    shared = s.get("share_encoder_decoder_embeddings", True)
    return s["vocab_size"] if shared else s["decoder_vocab_size"] or s["vocab_size"]


def embeddings_table(s: Settings) -> Table:
    """Returns the table of the embeddings of BART and Marian."""
    size = s["d_model"]
    if is_shared(s):
        return {"target_embedding": Rows("shared", s["vocab_size"], size)}
    return {
        "source_embedding": Rows("encoder.embed_tokens", s["vocab_size"], size),
        "target_embedding": Rows("decoder.embed_tokens", target_size(s), size),
    }


def text_to_text(s: Settings, num_labels: int) -> HeadAndTable:
    """Returns the head of T5, and the table of its weights."""
    tied = s["tie_word_embeddings"]
    table: Table = {} if tied else {"projection": Linear("lm_head", s["d_model"], s["vocab_size"], bias=False)}
    return LanguageHead(tied, use_bias=False), table


def biased_text_to_text(s: Settings, num_labels: int) -> HeadAndTable:
    """Returns the head of BART and Marian, whose logits have a bias, and the table of its weights."""
    bias, size = "final_logits_bias", target_size(s)
    if s["tie_word_embeddings"]:
        return LanguageHead(tied=True), {"bias": LogitsBias(bias, size)}
    return LanguageHead(), {"projection": BiasedLogits(("lm_head.weight", bias), s["d_model"], size)}


def encoder_decoder(name: str, **named: Any) -> Family:
    """Returns a family of encoder-decoders; `named` are its other attributes."""
    fixed = {"is_encoder_decoder": (True,), **named.pop("fixed", {})}
    return Family(name=name, fixed=fixed, recipe=Transformer, **named)
