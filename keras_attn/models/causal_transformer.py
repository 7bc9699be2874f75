"""The decoder-only Transformer, which continues prompts."""

from __future__ import annotations

import keras

from keras_attn.attention.dot_product import DotProduct
from keras_attn.base.checks import check_positive, check_slot
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.masks import Causal, Pattern, check_hides_the_future
from keras_attn.models.causal_transformer_model import CausalTransformerModel, decode
from keras_attn.models.embeddings import Embeddings, split_position
from keras_attn.models.inputs import id_inputs
from keras_attn.models.language_head import LanguageHead, language_head
from keras_attn.models.recipe_arguments import check_heads, check_left_out, num_blocks, self_attention
from keras_attn.positions import HeadPosition
from keras_attn.transformer import EncoderBlock
from keras_attn.transformer.residual import PreNorm, Residual
from keras_attn.transformer.stacks import Encoder


def CausalTransformer(  # noqa: N802 - a recipe is named after its model
    vocabulary_size: int,
    num_layers: int = 6,
    size: int = 512,
    num_heads: int = 8,
    hidden_size: int = 2048,
    dropout: float = 0.1,
    mask: Pattern = Causal(),  # noqa: B008 - slots never change
    residual: Residual = PreNorm(),  # noqa: B008
    position: keras.layers.Layer | HeadPosition | None = None,
    special_ids: SpecialIds | None = None,
    name: str = "causal_transformer",
    *,
    num_kv_heads: int | None = None,
    score: DotProduct | None = None,
    block: EncoderBlock | list[EncoderBlock] | None = None,
    tied_embeddings: bool = False,
    embeddings: Embeddings | None = None,
    head: LanguageHead | None = None,
) -> CausalTransformerModel:
    """The decoder-only Transformer (GPT): each token attends to itself and the tokens before it.

    Embeddings times sqrt(D), positions, dropout, N causal blocks, a linear map to logits.
    Padding is masked.

    Args:
        vocabulary_size: Number of ids, including padding.
        num_layers: Number N of blocks.
        size: Model size D.
        num_heads: Number H of heads of each attention.
        hidden_size: Inner size of the feed-forward layers.
        dropout: Rate for the embeddings and each sublayer.
        mask: Static pattern that hides the future: `Causal()`, or `Causal() & Window(n)`, whose
            caches hold n positions only.
        residual: How the blocks combine residuals and norms.
        position: A layer that adds positions to embeddings, `Sinusoidal()` by default; or a
            `HeadPosition` of the attentions, for instance `Rotary()`.
        special_ids: The `SpecialIds`; 0 padding, 1 start, 2 end, 3 unknown by default.
        name: Name of the model.
        num_kv_heads: Number of key and value heads of each attention, a divisor of H (grouped-query attention).
        score: How heads score keys, for instance `DotProduct(norm=RMSNorm())`.
        block: A block with a mask that hides the future, or a list of blocks, one for each layer, whatever
            `num_layers` is. It replaces the block described by `num_heads`, `hidden_size`, `mask`, `residual`,
            `num_kv_heads` and `score`, which must then be left out.
        tied_embeddings: Whether the embeddings are also the matrix of the logits (Press and Wolf 2017,
            arXiv:1608.05859): `head=LanguageHead(tied=True, use_bias=False)`.
        embeddings: How ids become vectors.
        head: How vectors become logits, `LanguageHead()` by default.

    Returns:
        A functional `keras.Model`: inputs `{"target": [B, T]}`, integers; output logits
        `[B, T, V]`, float32, with the padding mask of the ids, so that Keras' losses and metrics
        ignore padding. `generate(prompts)` continues prompts of different lengths; an empty one
        counts as a prompt with only the start id.

    The model also reads rows into which several texts were packed, if the inputs include
    `target_segment_ids` and `target_positions` `[B, T]`: each text has one segment id, starting at 1,
    segment 0 is padding, and positions start at 0 in each text. The logits are the same as for
    one text per row.

    Raises:
        ValueError: For sizes that are not positive or not divisible, incomplete packed inputs,
            unknown input names, and in eager calls for ids outside the vocabulary.

    Example:
    >>> import numpy as np
    >>> from keras_attn import models
    >>> model = models.CausalTransformer(50, num_layers=1, size=16, num_heads=2, hidden_size=32)
    >>> model({"target": np.array([[1, 7, 8]])}).shape.as_list()
    [1, 3, 50]
    >>> model.generate(np.array([[1, 7, 8], [1, 9, 0]]), max_length=4).tokens.shape.as_list()
    [2, 1, 4]

    References:
        Radford et al. 2018, Improving Language Understanding by Generative Pre-Training;
        Liu et al. 2018, arXiv:1801.10198.
    """
    check_positive("vocabulary_size", vocabulary_size)
    special_ids = special_ids_or_default(special_ids)
    added, turned = split_position(position)
    if block is None:
        check_heads(size, num_heads)
        attention = self_attention(num_heads, num_kv_heads, score, mask, turned)
        block = EncoderBlock(num_heads, hidden_size, dropout, mask, turned, residual, attention=attention)
    else:
        given = {"num_heads": num_heads, "hidden_size": hidden_size, "mask": mask, "residual": residual, "score": score}
        given |= {"num_kv_heads": num_kv_heads} | ({} if turned is None else {"position": position})
        check_left_out(CausalTransformer, ["block"], given)
    for each in block if isinstance(block, (list, tuple)) else [block]:
        check_hides_the_future(each.mask)
    embeddings = check_slot("embeddings", embeddings, Embeddings) or Embeddings()
    head = language_head(head, tied_embeddings)
    layers = {
        "blocks": Encoder(num_blocks(block, num_layers), block, name="blocks"),
        **embeddings.layers("target", vocabulary_size, size, dropout, added, head.tied),
        **head.layers(vocabulary_size),
    }
    inputs = id_inputs("target")
    logits = decode(layers.__getitem__, embeddings, head, inputs["target"], special_ids)
    model = CausalTransformerModel(inputs, logits, name=name)
    return model.with_slots(special_ids=special_ids, embeddings=embeddings, head=head)
