"""The model of the decoder-only recipe: it reads prompts and continues them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes
from keras_attn.base.slot import Slot, register
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.state import check_state
from keras_attn.base.tensors import to_tensor
from keras_attn.base.types import State, Tensor
from keras_attn.models.embeddings import Embeddings, num_positions
from keras_attn.models.language_head import LanguageHead, head_of_layers
from keras_attn.models.layers import LayerByName
from keras_attn.models.sequence_model import SequenceModel

if TYPE_CHECKING:
    from typing_extensions import Self


class PromptState(NamedTuple):
    """The state of a model that continues prompts.

    Attributes:
        blocks: The states of its blocks.
        offset: Position of the first step of each row, int32 `[B]`: that of the prompt's last id.
    """

    blocks: State
    offset: Tensor


@register
class CausalTransformerModel(SequenceModel):
    """The model that `CausalTransformer` returns: a functional model with methods for stepwise decoding.

    Attributes:
        embeddings: The `Embeddings`.
        head: The `LanguageHead` that computes the logits.
    """

    sides = ("target",)
    source_vocabulary = "target"
    reads_prompts = True
    embeddings = Embeddings()
    head = LanguageHead()
    slots = ("special_ids", "embeddings", "head")

    def with_slots(self, **slots: Slot) -> Self:
        return super().with_slots(**{"head": head_of_layers(self), **slots})

    @property
    def max_length(self) -> int | None:
        return num_positions(self.get_layer("target_position"))

    @property
    def source_max_length(self) -> int | None:
        return self.max_length

    def call_packed(self, ids: dict[str, Tensor], packing: dict[str, Tensor]) -> Tensor:
        positions, segment_ids = packing["target_positions"], packing["target_segment_ids"]
        return decode(
            self.get_layer, self.embeddings, self.head, ids["target"], self.special_ids, positions, segment_ids
        )

    def init_state(
        self, source: Tensor, max_length: int, cache: Cache | None = None, source_lengths: Tensor | None = None
    ) -> PromptState:
        """Reads the prompts.

        Args:
            source: Ids of the prompts `[B, P]`, each followed by padding.
            max_length: Maximum number of tokens after the prompts.
            cache: How keys and values are stored: `ExactCache()` by default, or `Int8Cache()`.
            source_lengths: Number of ids of each prompt, integers `[B]`; by default the ids that are not padding,
                which are all if the vocabulary has no padding id.

        Returns:
            The state before the first step, which reads the prompt's last token (`first_tokens`)
            at index 0.

        Raises:
            ValueError: If `source` does not have rank 2, or holds ids outside the vocabulary.
        """
        source = self.read_source(source)
        lengths = prompt_lengths(source, self.special_ids, source_lengths)
        length, embedded = ops.shape(source)[1] + max_length, self.embeddings.embed(self.get_layer, "target", source)
        _, blocks = self.get_layer("blocks").prefill(embedded, lengths, length, cache)
        return PromptState(blocks, ops.maximum(lengths - 1, ops.zeros((), "int32")))

    def first_tokens(self, source: Tensor, start_id: int | None = None, source_lengths: Tensor | None = None) -> Tensor:
        """Returns the tokens that the first step reads, `[B]`: the last one of each prompt, the start id if empty."""
        lengths = prompt_lengths(source, self.special_ids, source_lengths)
        start_id = self.special_ids.start if start_id is None else start_id
        padded = ops.pad(ops.cast(source, "int32"), [[0, 0], [1, 0]], constant_values=start_id)
        return ops.take_along_axis(padded, lengths[:, None], axis=1)[:, 0]

    def check_ids(self, name: str, ids: Tensor, vocabulary: str) -> None:
        super().check_ids(name, ids, vocabulary)
        if name == "source" and (isinstance(ids, np.ndarray) or is_concrete(ids)):
            real = ops.convert_to_numpy(ids) != self.special_ids.padding
            real[:, :1] |= self.special_ids.start == self.special_ids.padding
            if np.any(real[:, 1:] & ~real[:, :-1]):
                raise ValueError("`source` must hold prompts with padding after them, not before or inside.")

    def extend(
        self, tokens: Tensor, state: State, index: int | Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, PromptState]:
        """Reads T new tokens per row after those that the state contains.

        Args:
            tokens: Ids `[B, T]`.
            state: From `init_state`, or the previous `extend` or `step`.
            index: Position of the first of them, an integer scalar or `[B]`; position 0 is that of the prompt's
                last token. It may be less than in an earlier call.
            lengths: Integers `[B]`, from 0 to T: the number of tokens of each row; None means T.

        Returns:
            Logits `[B, T, V]` of the token after each, and the new state.
        """
        tokens = self.read_ids("tokens", tokens, "BT", "target")
        check_state(state, PromptState)
        index = state.offset + to_tensor("index", index, "int32")
        x = self.embeddings.embed_chunk(self.get_layer, "target", tokens, index, lengths)
        outputs, blocks = self.get_layer("blocks").extend(x, state.blocks, index, lengths)
        return self.head.apply(self.get_layer, outputs), state._replace(blocks=blocks)


def decode(
    layer: LayerByName,
    embeddings: Embeddings,
    head: LanguageHead,
    target: Tensor,
    special_ids: SpecialIds,
    positions: Tensor | None = None,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """Returns the logits `[B, T, V]`; `layer` returns a layer by name."""
    embedded = embeddings.embed(layer, "target", target, positions)
    mask = special_ids.is_read(target, segment_ids)
    outputs = layer("blocks")(embedded, mask=mask, segment_ids=segment_ids, positions=positions)
    return head.apply(layer, outputs, mask)


def prompt_lengths(prompts: Tensor, special_ids: SpecialIds, lengths: Tensor | None = None) -> Tensor:
    """Returns how many ids of each prompt `[B, P]` are real, int32 `[B]`: `lengths`, or those before padding."""
    if lengths is not None:
        lengths = to_tensor("source_lengths", lengths, "int32")
        check_axes({"source": "BP", "source_lengths": "B"}, {"source": prompts, "source_lengths": lengths})
        return ops.clip(lengths, 0, ops.shape(prompts)[1])
    return ops.cast(ops.sum(ops.cast(special_ids.is_read(prompts), "int32"), axis=-1), "int32")
