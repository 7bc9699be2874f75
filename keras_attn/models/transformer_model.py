"""The model of the Transformer recipe: encoder and decoder, called whole or step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.base.slot import Slot, register
from keras_attn.base.slot_layers import with_scores
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.types import Results, State, Tensor
from keras_attn.models.embeddings import Embeddings, num_positions
from keras_attn.models.language_head import LanguageHead, head_of_layers
from keras_attn.models.layers import LayerByName
from keras_attn.models.sequence_model import Seq2SeqModel

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
