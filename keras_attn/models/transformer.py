"""The Transformer: encoder and decoder over ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.encoder_decoder_attention import EncoderDecoderAttention
from keras_attn.base.checks import check_slot
from keras_attn.base.slot import Slot, register
from keras_attn.base.slot_layers import with_scores
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.types import Results, State, Tensor
from keras_attn.masks import Causal
from keras_attn.models.embeddings import Embeddings, num_positions, split_position
from keras_attn.models.inputs import id_inputs
from keras_attn.models.language_head import LanguageHead, head_of_layers, language_head
from keras_attn.models.layers import LayerByName
from keras_attn.models.recipe_arguments import check_heads, check_left_out, num_blocks, self_attention
from keras_attn.models.sequence_model import Seq2SeqModel
from keras_attn.positions import HeadPosition
from keras_attn.transformer import DecoderBlock, EncoderBlock
from keras_attn.transformer.residual import PostNorm, Residual
from keras_attn.transformer.stacks import Decoder, Encoder

if TYPE_CHECKING:
    from typing_extensions import Self


@register
class TransformerModel(Seq2SeqModel):
    """The model that `Transformer` returns: a functional model whose encoder and decoder can be called separately.

    Attributes:
        embeddings: The `Embeddings` of both sides.
        head: The `LanguageHead` that computes the logits.
    """

    embeddings = Embeddings()
    head = LanguageHead()
    slots = ("special_ids", "embeddings", "head")

    def with_slots(self, **slots: Slot) -> Self:
        return super().with_slots(**{"head": head_of_layers(self), **slots})

    def embedding(self, side: str) -> keras.layers.Layer:
        return self.get_layer(self.embeddings.layer_name(side))

    @property
    def source_vocabulary_size(self) -> int:
        return self.embedding("source").input_dim

    @property
    def max_length(self) -> int | None:
        return num_positions(self.get_layer("target_position"))

    @property
    def source_max_length(self) -> int | None:
        return num_positions(self.get_layer("source_position"))

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Ids `[B, S]` -> the memory `[B, S, D]` and its mask `[B, S]`."""
        return self.encode_ids(self.read_ids("source", source, "BS", "source"))

    def decode(self, target: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """Ids `[B, T]` and the memory -> logits `[B, T, V]`."""
        target = self.read_ids("target", target, "BT", "target")
        return self.decode_ids(target, memory, memory_mask)[0]

    def call_packed(self, ids: dict[str, Tensor], packing: dict[str, Tensor]) -> Tensor:
        segment_ids = packing["source_segment_ids"]
        positions = packing["source_positions"]
        memory, memory_mask = self.encode_ids(ids["source"], positions, segment_ids)
        return self.decode_ids(
            ids["target"],
            memory,
            memory_mask,
            packing["target_positions"],
            segment_ids=packing["target_segment_ids"],
            memory_segment_ids=segment_ids,
        )[0]

    def init_state(self, source: Tensor, max_length: int, cache: Cache | None = None) -> State:
        """Returns the state before the first target token: empty caches, and the memory's keys and values.

        Args:
            source: Ids `[B, S]`.
            max_length: Maximum number of target tokens.
            cache: How keys and values are stored: `ExactCache()` by default, or `Int8Cache()`.

        Raises:
            ValueError: If `source` does not have rank 2, or holds ids outside the vocabulary.
        """
        memory, memory_mask = self.encode(source)
        return self.get_layer("decoder").init_state(memory, memory_mask, max_length=max_length, cache=cache)

    def extend(
        self,
        tokens: Tensor,
        state: State,
        index: int | Tensor,
        lengths: Tensor | None = None,
        return_attention_scores: bool = False,
    ) -> tuple[Results, State]:
        """Reads T new target tokens per row after those that the state contains.

        Args:
            tokens: Ids `[B, T]`, first the start id; or `[B W, T]`, with the W beams of a row next to each other.
            state: From `init_state`, or the previous `extend` or `step`.
            index: Position of the first of them, an integer scalar or `[B]`. It may be less than in an
                earlier call.
            lengths: Integers `[B]`, from 0 to T: the number of tokens of each row; None means T.
            return_attention_scores: Whether to return the attention over the source too, the
                mean over blocks and heads, `[B, T, S]`.

        Returns:
            Logits `[B, T, V]` of the token after each (or a tuple of them and the scores), and the new state.
        """
        tokens = self.read_ids("tokens", tokens, "BT", "target")
        x = self.embeddings.embed_chunk(self.get_layer, "target", tokens, index, lengths)
        outputs, state = self.get_layer("decoder").extend(x, state, index, lengths, return_attention_scores)
        outputs, scores = with_scores(outputs)
        logits = self.head.apply(self.get_layer, outputs)
        return ((logits, ops.mean(scores, axis=(1, 2))) if return_attention_scores else logits), state

    def logits_and_scores(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Seq2SeqModel`; the scores are those of all decoder blocks and heads, `[B, N, H, T, S]`."""
        memory, memory_mask = self.encode(source)
        target = self.read_ids("target", target, "BT", "target")
        return self.decode_ids(target, memory, memory_mask, return_attention_scores=True)

    def encode_ids(self, source: Tensor, *packing: Tensor) -> tuple[Tensor, Tensor]:
        """Applies the recipe's `encode` to checked ids."""
        return encode(self.get_layer, self.embeddings, source, self.special_ids, *packing)

    def decode_ids(self, target: Tensor, *tensors: Tensor | None, **named: Any) -> tuple[Tensor, Tensor | None]:
        """Applies the recipe's `decode` to checked ids."""
        return decode(self.get_layer, self.embeddings, self.head, target, self.special_ids, *tensors, **named)


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


def encode(
    layer: LayerByName,
    embeddings: Embeddings,
    source: Tensor,
    special_ids: SpecialIds,
    positions: Tensor | None = None,
    segment_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Applies the encoder; `layer` returns a layer by name."""
    mask = special_ids.is_real(source)
    embedded = embeddings.embed(layer, "source", source, positions)
    return layer("encoder")(embedded, mask=mask, segment_ids=segment_ids, positions=positions), mask


def decode(
    layer: LayerByName,
    embeddings: Embeddings,
    head: LanguageHead,
    target: Tensor,
    special_ids: SpecialIds,
    memory: Tensor,
    memory_mask: Tensor | None,
    positions: Tensor | None = None,
    segment_ids: Tensor | None = None,
    **named: Any,
) -> tuple[Tensor, Tensor | None]:
    """Applies the decoder; returns the logits, and the attention scores or None; `named` is passed to the decoder."""
    mask = special_ids.is_read(target, segment_ids)
    outputs = layer("decoder")(
        embeddings.embed(layer, "target", target, positions),
        memory,
        inputs_mask=mask,
        memory_mask=memory_mask,
        segment_ids=segment_ids,
        positions=positions,
        **named,
    )
    outputs, scores = with_scores(outputs)
    return head.apply(layer, outputs, mask), scores
