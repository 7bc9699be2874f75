"""The Transformer's decoder block: masked self-attention, encoder-decoder attention and feed-forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
from keras import ops

from keras_attn import masks
from keras_attn.attention.cache import Cache
from keras_attn.attention.chunk import Chunk
from keras_attn.attention.doors import MemoryDoors
from keras_attn.attention.encoder_decoder_attention import EncoderDecoderAttention
from keras_attn.attention.stream import Stream
from keras_attn.base.cloning import check_same
from keras_attn.base.slot import register
from keras_attn.base.slot_layers import check_call, check_given, check_returns, is_plain, stepwise
from keras_attn.base.tensors import as_array
from keras_attn.base.types import Activation, LayerArguments, Shape, State, Tensor
from keras_attn.positions import HeadPosition
from keras_attn.transformer.block import Block
from keras_attn.transformer.residual import PostNorm, Residual

if TYPE_CHECKING:
    from typing_extensions import Unpack

SIDES = (("inputs", ""), ("memory", "memory_"))


class DecoderBlockState(NamedTuple):
    """The state of a decoder block: the states of its two attention layers."""

    attention: State
    memory_attention: State


@register
class DecoderBlock(MemoryDoors, Block):
    """Masked self-attention, encoder-decoder attention and feed-forward.

    With `residual=PostNorm()`: `h = Norm(x + SelfAttention(x))`,
    `g = Norm(h + EncoderDecoderAttention(h, memory))`, `y = Norm(g + FeedForward(g))`.

    Args:
        num_heads, hidden_size, dropout, position, residual, feed_forward, attention, activation: As for
            `EncoderBlock`.
        mask: Static pattern of the self-attention.
        memory_attention: A layer `[B, T, D], [B, S, M] -> [B, T, D]` to use instead of
            `EncoderDecoderAttention(num_heads)`.

    Call arguments:
        inputs: `[B, T, D]`.
        memory: `[B, S, M]`.
        inputs_mask, memory_mask: Padding masks `[B, T]` and `[B, S]`, filled in by Keras.
        attention_mask: Boolean, broadcasts to `[B, H, T, T]`, for the self-attention.
        memory_attention_mask: Boolean, broadcasts to `[B, H, T, S]`, for the encoder-decoder attention.
        segment_ids, memory_segment_ids: Integers `[B, T]` and `[B, S]`; 0 is padding.
        positions: Integers `[B, T]`.
        return_attention_scores: Whether to return the encoder-decoder scores too.

    Returns:
        The outputs `[B, T, D]`, or a pair of outputs and encoder-decoder scores `[B, H, T, S]`.

    Masks work as in `MultiHeadSelfAttention`; padded inputs and memory are treated as zeros.

    Raises:
        ValueError: If shapes do not match, or a layer does not fit its slot or has another dtype policy.

    Example:
    >>> import numpy as np
    >>> from keras_attn import DecoderBlock
    >>> inputs, memory = np.ones((2, 3, 16), "float32"), np.ones((2, 5, 8), "float32")
    >>> DecoderBlock(num_heads=4, hidden_size=64)(inputs, memory).shape.as_list()
    [2, 3, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.1.
    """

    num_sublayers = 3

    def __init__(
        self,
        num_heads: int,
        hidden_size: int,
        dropout: float = 0.1,
        mask: masks.Pattern | None = masks.Causal(),  # noqa: B008 - slots are immutable
        position: HeadPosition | None = None,
        residual: Residual = PostNorm(),  # noqa: B008
        feed_forward: keras.layers.Layer | None = None,
        attention: keras.layers.Layer | None = None,
        memory_attention: keras.layers.Layer | None = None,
        activation: Activation | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            num_heads, hidden_size, dropout, mask, position, residual, feed_forward, attention, activation, **kwargs
        )
        if memory_attention is None:
            memory_attention = EncoderDecoderAttention(num_heads, dtype=self.dtype_policy, name="memory_attention")
        self.memory_attention = self.check_child("memory_attention", memory_attention)
        check_call("memory_attention", memory_attention, "query", "memory")
        if isinstance(memory_attention, EncoderDecoderAttention):
            check_same("memory_attention", memory_attention, {"num_heads": num_heads})

    def build(self, inputs_shape: Shape, memory_shape: Shape) -> None:
        self._build_around(inputs_shape)
        self.build_child(self.memory_attention, inputs_shape, memory_shape)
        check_returns("memory_attention", self.memory_attention, inputs_shape, memory_shape)

    def init_state(
        self,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        initial_state: State = None,
        max_length: int | None = None,
        cache: Cache | None = None,
    ) -> DecoderBlockState:
        """Returns the state before the first step: an empty cache, and the memory's keys and values.

        Args:
            memory, memory_mask: As for the call.
            initial_state: Not used by this layer.
            max_length, cache: As for `MultiHeadSelfAttention.init_state`.

        Raises:
            ValueError: If the layer is not built, its mask shows the future, or `max_length` is missing.
        """
        memory = as_array("memory", memory)
        batch_size = ops.shape(memory)[0]
        return DecoderBlockState(
            stepwise("attention", self.attention).init_state(batch_size, max_length, cache),
            stepwise("memory_attention", self.memory_attention).init_state(memory, memory_mask),
        )

    def run(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        state: State = None,
        chunk: Chunk | None = None,
        training: bool | None = False,
        **named: Any,
    ) -> tuple[Tensor, Tensor | None, DecoderBlockState]:
        attended, remembered = (None, None) if state is None else state
        own, read = arguments(training=training, **named)
        y, _, attended = self.part("attention", [self.before(0, x)], attended, chunk, **own)
        x = self.after(0, x, y, training)
        tensors = [self.before(1, x)] if memory is None else [self.before(1, x), memory]
        y, scores, remembered = self.part("memory_attention", tensors, remembered, chunk, **read)
        x = self.after(1, x, y, training)
        y = self.feed(self.before(2, x), training)
        return self.after(2, x, y, training), scores, DecoderBlockState(attended, remembered)

    def scores_spec(self, inputs: Tensor, memory: Tensor) -> keras.KerasTensor:
        return self.memory_attention.compute_output_spec(inputs, memory, return_attention_scores=True)[1]

    @property
    def is_position_wise(self) -> bool:
        return super().is_position_wise and is_plain(self.memory_attention, EncoderDecoderAttention)

    def check_slots(self, arguments: Mapping[str, object]) -> None:
        """Raises a `ValueError` for call arguments that the layers in the slots do not accept."""
        get = arguments.get
        padding = {side: masks.first_not_none(get(f"{side}_mask"), get(f"{end}segment_ids")) for side, end in SIDES}
        named = {name: get(name) for name in ("attention_mask", "segment_ids", "positions")}
        check_given("attention", self.attention, {"mask": padding["inputs"], **named})
        named = {name: get(name) for name in ("memory_segment_ids", "return_attention_scores")}
        named |= {"memory_mask": padding["memory"], "attention_mask": get("memory_attention_mask")}
        check_given("memory_attention", self.memory_attention, named)


def arguments(
    return_attention_scores: bool = False,
    training: bool | None = False,
    inputs_mask: Tensor | None = None,
    memory_mask: Tensor | None = None,
    attention_mask: Tensor | None = None,
    memory_attention_mask: Tensor | None = None,
    segment_ids: Tensor | None = None,
    memory_segment_ids: Tensor | None = None,
    positions: Tensor | None = None,
    **streams: Stream,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the call's arguments for the self-attention and those for the encoder-decoder attention."""
    own = {
        "mask": inputs_mask,
        "attention_mask": attention_mask,
        "segment_ids": segment_ids,
        "positions": positions,
        "return_attention_scores": False,
        "training": training,
    }
    read = {
        "query_mask": inputs_mask,
        "memory_mask": memory_mask,
        "attention_mask": memory_attention_mask,
        "query_segment_ids": None if memory_segment_ids is None else segment_ids,
        "memory_segment_ids": memory_segment_ids,
        "return_attention_scores": return_attention_scores,
        "training": training,
    }
    own |= {name: stream for name, stream in streams.items() if name == "stream"}
    return own, read | streams
