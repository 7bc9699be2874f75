"""The decoder-only Transformer: it continues prompts."""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.attention.dot_product import DotProduct
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_positive
from keras_attn.base.slot import register
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.state import check_state
from keras_attn.base.tensors import to_tensor
from keras_attn.base.types import State, Tensor
from keras_attn.masks import Causal, Pattern, check_hides_the_future
from keras_attn.models.embedding import (
    LayerByName,
    check_heads,
    check_left_out,
    embed,
    embed_chunk,
    embedding_layers,
    logit_layers,
    num_positions,
    project,
    self_attention,
    split_position,
)
from keras_attn.models.inputs import id_inputs
from keras_attn.models.sequence_model import SequenceModel
from keras_attn.positions import HeadPosition
from keras_attn.transformer import EncoderBlock
from keras_attn.transformer.residual import PreNorm, Residual
from keras_attn.transformer.stacks import Encoder


class PromptState(NamedTuple):
    """The state of a model that continues prompts.

    Attributes:
        blocks: The states of its blocks.
        offset: Position at which the first step of each row stands, int32 `[B]`: behind the prompt but its last id.
    """

    blocks: State
    offset: Tensor


@register
class CausalTransformerModel(SequenceModel):
    """What `CausalTransformer` returns: the functional model, and its steps one by one."""

    sides = ("target",)
    source_vocabulary = "target"
    reads_prompts = True

    @property
    def max_length(self) -> int | None:
        return num_positions(self.get_layer("target_position"))

    @property
    def source_max_length(self) -> int | None:
        return self.max_length

    def call_packed(self, ids: dict[str, Tensor], packing: dict[str, Tensor]) -> Tensor:
        positions, segment_ids = packing["target_positions"], packing["target_segment_ids"]
        return decode(self.get_layer, ids["target"], self.special_ids, positions, segment_ids)

    def init_state(self, source: Tensor, max_length: int, cache: Cache | None = None) -> PromptState:
        """Reads the prompts.

        Args:
            source: Ids of the prompts `[B, P]`, padding behind the end of each.
            max_length: Number of tokens there will be at most after them.
            cache: How keys and values are kept: `ExactCache()` by default, or `Int8Cache()`.

        Returns:
            The state before the first step, which reads the prompt's last token (`first_tokens`)
            at index 0.

        Raises:
            ValueError: If `source` is not of rank 2, or holds ids outside the vocabulary.
        """
        source = self.read_source(source)
        lengths = prompt_lengths(source, self.special_ids)
        length, embedded = ops.shape(source)[1] + max_length, embed(self.get_layer, "target", source)
        _, blocks = self.get_layer("blocks").prefill(embedded, lengths, length, cache)
        return PromptState(blocks, ops.maximum(lengths - 1, ops.zeros((), "int32")))

    def first_tokens(self, source: Tensor, start_id: int | None = None) -> Tensor:
        """Returns what the first step reads: each prompt's last token `[B]`, the start id for an empty one."""
        lengths = prompt_lengths(source, self.special_ids)
        start_id = self.special_ids.start if start_id is None else start_id
        padded = ops.pad(ops.cast(source, "int32"), [[0, 0], [1, 0]], constant_values=start_id)
        return ops.take_along_axis(padded, lengths[:, None], axis=1)[:, 0]

    def check_ids(self, name: str, ids: Tensor, vocabulary: str) -> None:
        super().check_ids(name, ids, vocabulary)
        if name == "source" and (isinstance(ids, np.ndarray) or is_concrete(ids)):
            real = ops.convert_to_numpy(ids) != self.special_ids.padding
            real[:, :1] |= self.special_ids.start == self.special_ids.padding
            if np.any(real[:, 1:] & ~real[:, :-1]):
                raise ValueError("`source` must hold prompts with padding behind them, not before or inside.")

    def extend(
        self, tokens: Tensor, state: State, index: int | Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, PromptState]:
        """Reads T new tokens per row behind what the state holds.

        Args:
            tokens: Ids `[B, T]`.
            state: From `init_state`, or the `extend` or `step` before.
            index: Position of the first of them, an integer scalar or `[B]`, counted from the last token of the
                prompt, which has 0. It may go back.
            lengths: Integers `[B]`: how many of the T tokens each row has, none to all; None means all.

        Returns:
            Logits `[B, T, V]` of the tokens behind each, and the new state.
        """
        tokens = self.read_ids("tokens", tokens, "BT", "target")
        check_state(state, PromptState)
        index = state.offset + to_tensor("index", index, "int32")
        x = embed_chunk(self.get_layer, "target", tokens, index, lengths)
        outputs, blocks = self.get_layer("blocks").extend(x, state.blocks, index, lengths)
        return project(self.get_layer, outputs), state._replace(blocks=blocks)


def CausalTransformer(  # noqa: N802 - a recipe is named as what it makes
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
    block: EncoderBlock | None = None,
    tied_embeddings: bool = False,
) -> CausalTransformerModel:
    """The decoder-only Transformer (GPT): every token sees the ones before it.

    Embeddings times sqrt(D), positions, dropout, N causal blocks, a linear map to logits.
    Padding is masked.

    Args:
        vocabulary_size: Number of ids, padding among them.
        num_layers: Number N of blocks.
        size: Model size D.
        num_heads: Heads H of each attention.
        hidden_size: Inner size of the feed-forward layers.
        dropout: Of the embeddings and of each sublayer.
        mask: Static pattern that hides the future: `Causal()`, or `Causal() & Window(n)`, whose
            caches hold n positions only.
        residual: The wiring of the blocks.
        position: A layer that adds positions to embeddings, `Sinusoidal()` by default; or what
            fills an attention's slot, for instance `Rotary()`, in the place of it.
        special_ids: The `SpecialIds`; 0 padding, 1 start, 2 end, 3 unknown by default.
        name: Of the model.
        num_kv_heads: Key and value heads of each attention, a divisor of H (grouped-query attention).
        score: How heads score keys, for instance `DotProduct(norm=RMSNorm())`.
        block: A block with a mask that hides the future, in place of the one that the arguments above describe:
            `num_heads`, `hidden_size`, `mask`, `residual`, `num_kv_heads` and `score` are then left out.
        tied_embeddings: Whether the embeddings are also the matrix of the logits (Press and Wolf 2017,
            arXiv:1608.05859).

    Returns:
        A functional `keras.Model`: inputs `{"target": [B, T]}`, integers; output logits
        `[B, T, V]`, float32, with the padding mask of the ids, so that Keras' own losses and metrics leave
        padding out. `generate(prompts)` continues prompts of different lengths, an
        empty one being that of the start id.

    The same model reads rows into which several texts were packed where the inputs also hold
    `target_segment_ids` and `target_positions` `[B, T]`: a text has one segment id, from 1 on,
    segment 0 is padding, and positions count from 0 within a text. The logits are those of each
    text in a row of its own.

    Raises:
        ValueError: For sizes that are not positive or do not divide, for packed inputs that are
            not complete, names that are not inputs, and in eager calls for ids outside the vocabulary.

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
    check_hides_the_future(block.mask)
    layers = {
        "blocks": Encoder(num_layers, block, name="blocks"),
        **embedding_layers("target", vocabulary_size, size, dropout, added, tied_embeddings),
        **logit_layers(vocabulary_size, tied_embeddings),
    }
    inputs = id_inputs("target")
    logits = decode(layers.__getitem__, inputs["target"], special_ids)
    model = CausalTransformerModel(inputs, logits, name=name)
    model.special_ids = special_ids
    return model


def decode(
    layer: LayerByName,
    target: Tensor,
    special_ids: SpecialIds,
    positions: Tensor | None = None,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """Builds the logits `[B, T, V]`; `layer` returns a layer by name."""
    embedded = embed(layer, "target", target, positions)
    mask = special_ids.is_read(target, segment_ids)
    outputs = layer("blocks")(embedded, mask=mask, segment_ids=segment_ids, positions=positions)
    return project(layer, outputs, mask)


def prompt_lengths(prompts: Tensor, special_ids: SpecialIds) -> Tensor:
    """Returns how many ids of each prompt `[B, P]` are real, int32 `[B]`."""
    return ops.cast(ops.sum(ops.cast(special_ids.is_read(prompts), "int32"), axis=-1), "int32")
