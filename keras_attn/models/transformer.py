"""The Transformer: encoder and decoder over ids."""

from __future__ import annotations

import keras

from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.encoder_decoder_attention import EncoderDecoderAttention
from keras_attn.base.checks import check_slot
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.masks import Causal
from keras_attn.models.embeddings import Embeddings, split_position
from keras_attn.models.inputs import id_inputs
from keras_attn.models.language_head import LanguageHead, language_head
from keras_attn.models.recipe_arguments import check_heads, check_left_out, num_blocks, self_attention
from keras_attn.models.transformer_model import TransformerModel, decode, encode
from keras_attn.positions import HeadPosition
from keras_attn.transformer import DecoderBlock, EncoderBlock
from keras_attn.transformer.residual import PostNorm, Residual
from keras_attn.transformer.stacks import Decoder, Encoder


def Transformer(  # noqa: N802 - a recipe is named after its model
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    num_layers: int = 6,
    size: int = 512,
    num_heads: int = 8,
    hidden_size: int = 2048,
    dropout: float = 0.1,
    residual: Residual = PostNorm(),  # noqa: B008 - slots never change
    position: keras.layers.Layer | HeadPosition | None = None,
    special_ids: SpecialIds | None = None,
    name: str = "transformer",
    *,
    num_kv_heads: int | None = None,
    score: DotProduct | None = None,
    encoder_block: EncoderBlock | list[EncoderBlock] | None = None,
    decoder_block: DecoderBlock | list[DecoderBlock] | None = None,
    tied_embeddings: bool = False,
    embeddings: Embeddings | None = None,
    head: LanguageHead | None = None,
    encoder_position: HeadPosition | None = None,
    decoder_position: HeadPosition | None = None,
) -> TransformerModel:
    """The encoder-decoder Transformer of Vaswani et al.

    Embeddings times sqrt(D), positions, dropout, N encoder blocks, N decoder blocks, a linear
    map to logits. Padding is masked on both sides.

    Args:
        source_vocabulary_size, target_vocabulary_size: Numbers of ids, including padding.
        num_layers: Number N of encoder and of decoder blocks.
        size: Model size D.
        num_heads: Number H of heads of each attention.
        hidden_size: Inner size of the feed-forward layers.
        dropout: Rate for the embeddings and each sublayer.
        residual: How the blocks combine residuals and norms.
        position: A layer that adds positions to embeddings, `Sinusoidal()` by default; or a
            `HeadPosition` of the attentions, for instance `Rotary()`.
        special_ids: The `SpecialIds` of both sides; 0 padding, 1 start, 2 end, 3 unknown by default.
        name: Name of the model.
        num_kv_heads: Number of key and value heads of each attention, a divisor of H (grouped-query attention).
        score: How heads score keys, for instance `DotProduct(norm=RMSNorm())`.
        encoder_block, decoder_block: Blocks that replace those described by the arguments above, or lists of
            blocks, one for each layer, whatever `num_layers` is. If both are given, `num_heads`, `hidden_size`,
            `residual`, `num_kv_heads` and `score` must be left out.
        tied_embeddings: Whether the embeddings of the target are also the matrix of the logits
            (Press and Wolf 2017, arXiv:1608.05859): `head=LanguageHead(tied=True, use_bias=False)`.
        embeddings: How ids become vectors; `Embeddings(shared=True)` for one matrix for both sides.
        head: How vectors become logits, `LanguageHead()` by default.
        encoder_position, decoder_position: A position that the self-attentions of all blocks of a stack share, as
            for `Encoder` and `Decoder`, for instance `RelativeBias()`.

    Returns:
        A functional `keras.Model`: inputs `{"source": [B, S], "target": [B, T]}`, integers;
        output logits `[B, T, V]`, float32, with the padding mask of the target, so that Keras' losses
        and metrics ignore padding. It also has the methods `encode(source)` and
        `decode(target, memory, memory_mask)`.

    The model also reads rows into which several pairs were packed (`keras_attn.data.Packed`), if
    the inputs include `source_segment_ids` and `source_positions` `[B, S]`, `target_segment_ids`
    and `target_positions` `[B, T]`: each pair has one segment id on both sides, starting at 1,
    segment 0 is padding, and positions start at 0 in each pair. The logits are the same as for
    one pair per row.

    Raises:
        ValueError: For sizes that are not positive or not divisible, incomplete packed inputs, and
            in eager calls for ids outside their vocabulary.

    Example:
    >>> import numpy as np
    >>> from keras_attn import models
    >>> model = models.Transformer(50, 60, num_layers=1, size=16, num_heads=2, hidden_size=32)
    >>> model({"source": np.array([[5, 6, 2]]), "target": np.array([[1, 7]])}).shape.as_list()
    [1, 2, 60]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762.
    """
    special_ids = special_ids_or_default(special_ids)
    added, turned = split_position(position)
    if encoder_block is None or decoder_block is None:
        check_heads(size, num_heads)
    else:
        given = {"num_heads": num_heads, "hidden_size": hidden_size, "residual": residual, "score": score}
        given |= {"num_kv_heads": num_kv_heads} | ({} if turned is None else {"position": position})
        check_left_out(Transformer, ["encoder_block", "decoder_block"], given)
    if encoder_block is None:
        attention = self_attention(num_heads, num_kv_heads, score, None, turned)
        encoder_block = EncoderBlock(num_heads, hidden_size, dropout, None, turned, residual, attention=attention)
    if decoder_block is None:
        decoder_block = DecoderBlock(
            num_heads,
            hidden_size,
            dropout,
            position=turned,
            residual=residual,
            attention=self_attention(num_heads, num_kv_heads, score, Causal(), turned),
            memory_attention=EncoderDecoderAttention(
                num_heads, num_kv_heads=num_kv_heads, score=score, name="memory_attention"
            ),
        )
    embeddings = check_slot("embeddings", embeddings, Embeddings) or Embeddings()
    head = language_head(head, tied_embeddings)
    if embeddings.shared and source_vocabulary_size != target_vocabulary_size:
        raise ValueError(
            "`embeddings` with `shared=True` needs vocabularies of one size. Received: source_vocabulary_size="
            f"{source_vocabulary_size}, target_vocabulary_size={target_vocabulary_size}."
        )
    layers = {
        "encoder": Encoder(num_blocks(encoder_block, num_layers), encoder_block, encoder_position, name="encoder"),
        "decoder": Decoder(num_blocks(decoder_block, num_layers), decoder_block, decoder_position, name="decoder"),
        **embeddings.layers("source", source_vocabulary_size, size, dropout, added),
        **embeddings.layers("target", target_vocabulary_size, size, dropout, added, head.tied),
        **head.layers(target_vocabulary_size),
    }
    inputs, layer = id_inputs("source", "target"), layers.__getitem__
    memory, memory_mask = encode(layer, embeddings, inputs["source"], special_ids)
    logits, _ = decode(layer, embeddings, head, inputs["target"], special_ids, memory, memory_mask)
    model = TransformerModel(inputs, logits, name=name)
    return model.with_slots(special_ids=special_ids, embeddings=embeddings, head=head)
