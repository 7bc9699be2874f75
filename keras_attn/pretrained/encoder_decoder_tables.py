"""What the encoder-decoders have in common: their blocks, and the tables of their weights."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.attention import DotProduct, EncoderDecoderAttention, MultiHeadSelfAttention
from keras_attn.masks import Causal
from keras_attn.models import Transformer
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.weights import Linear, Norm, Table, blocks
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


def encoder_decoder(name: str, **named: Any) -> Family:
    """Returns a family of encoder-decoders; `named` are its other attributes."""
    fixed = {"is_encoder_decoder": (True,), **named.pop("fixed", {})}
    return Family(name=name, fixed=fixed, recipe=Transformer, **named)
