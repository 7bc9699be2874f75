"""Multi-head attention of a decoder to the encoder's memory, for a whole sequence or step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import keras
from keras import ops

from keras_attn import masks
from keras_attn.attention.chunk import Chunk
from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.multi_head import MultiHead, split_heads
from keras_attn.attention.stream import EVERY_POSITION, Stream
from keras_attn.base.checks import as_boolean, check_axes, check_last_axis
from keras_attn.base.projection_layer import ProjectionArguments, with_projection_arguments
from keras_attn.base.slot import register
from keras_attn.base.slot_layers import joined
from keras_attn.base.state import Shared, check_state
from keras_attn.base.tensors import as_array, shape_of
from keras_attn.base.types import Results, Shape, State, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MemoryHeads(NamedTuple):
    """The keys, values and mask of the memory, which all steps read.

    Attributes:
        key, value: `[B, H_kv, S, K]`.
        mask: Boolean `[B, S]`, False at padding; None if no position is padding.
    """

    key: Tensor
    value: Tensor
    mask: Tensor | None


@register
class EncoderDecoderAttention(MultiHead):
    """Every position of a decoder attends to the encoder's memory.

    The equations are those of `MultiHeadSelfAttention`, where keys and values are projections of the memory.

    Args:
        num_heads, head_size, num_kv_heads, score, dropout, kernel, use_bias, kernel_initializer,
        bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint: As for
            `MultiHeadSelfAttention`. The names of the projections are `"query_projection"`, `"memory_projection"`
            and `"out_projection"`.

    Call arguments:
        query: `[B, T, D]`.
        memory: `[B, S, M]`.
        query_mask, memory_mask: Padding masks `[B, T]` and `[B, S]`, filled in by Keras.
        attention_mask: Boolean, broadcasts to `[B, H, T, S]`; a mask `[B, T, S]` applies to all heads.
        query_segment_ids, memory_segment_ids: Integers `[B, T]` and `[B, S]`; 0 is padding.
        return_attention_scores: Whether to return the scores too.

    Returns:
        The outputs `[B, T, D]`, or a pair of outputs and scores `[B, H, T, S]`.

    Masks work as in `MultiHeadSelfAttention`.

    Raises:
        ValueError: If sizes are not divisible as required, shapes do not match, or only one of the two
            segment ids is given.

    Example:
    >>> import numpy as np
    >>> from keras_attn import EncoderDecoderAttention
    >>> query, memory = np.ones((2, 3, 16), "float32"), np.ones((2, 5, 8), "float32")
    >>> EncoderDecoderAttention(num_heads=4)(query, memory).shape.as_list()
    [2, 3, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.2.3.
    """

    axes = {
        "query": "BTD",
        "memory": "BSM",
        "query_mask": "BT",
        "memory_mask": "BS",
        "query_segment_ids": "BT",
        "memory_segment_ids": "BS",
    }
    score_masks = {"attention_mask": "BHTS"}
    requires = {"memory_segment_ids": "query_segment_ids", "query_segment_ids": "memory_segment_ids"}
    stream = "query"
    projections = ("query_projection", "memory_projection", "out_projection")

    @with_projection_arguments
    def __init__(
        self,
        num_heads: int,
        head_size: int | None = None,
        num_kv_heads: int | None = None,
        score: DotProduct | None = None,
        dropout: float = 0.0,
        kernel: str = "auto",
        **kwargs: Unpack[ProjectionArguments],
    ) -> None:
        super().__init__(num_heads, head_size, num_kv_heads, score, dropout, kernel, **kwargs)

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        check_last_axis("memory", memory_shape)
        model_size = self._set_sizes("query", query_shape)
        head_size, query_width, key_width = self.head_sizes
        self.query_projection = self.make_projection("query_projection", query_width, query_shape)
        self.memory_projection = self.make_projection("memory_projection", 2 * key_width, memory_shape)
        self.out_projection = self.make_projection("out_projection", model_size, (*query_shape[:-1], query_width))
        self._build_score(head_size)

    def call(
        self,
        query: Tensor,
        memory: Tensor,
        query_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_segment_ids: Tensor | None = None,
        memory_segment_ids: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Results:
        query_mask = masks.real_positions(query_mask, query_segment_ids)
        memory_mask = masks.real_positions(memory_mask, memory_segment_ids)
        outputs, scores, _ = self.run(
            masks.hide(query, query_mask),
            masks.hide(memory, memory_mask),
            query_mask=query_mask,
            memory_mask=memory_mask,
            attention_mask=attention_mask,
            query_segment_ids=query_segment_ids,
            memory_segment_ids=memory_segment_ids,
            return_attention_scores=return_attention_scores,
            training=training,
        )
        return joined(outputs, scores)

    def extend(
        self,
        query: Tensor,
        state: State,
        index: int | Tensor | None = None,
        lengths: Tensor | None = None,
        return_attention_scores: bool = False,
    ) -> tuple[Results, State]:
        """Reads the memory for T new positions of each row.

        Args:
            query: `[B, T, D]`, or `[B W, T, D]`, where the W beams of a row are adjacent.
            state: The state from `init_state`; it does not change.
            index: Not used.
            lengths: Integers `[B]`, or `[B W]`: how many of the T positions each row has; None means T.
            return_attention_scores: Whether to return the scores too, `[B W, H, T, S]`.

        Returns:
            The outputs `[B W, T, D]`, or a pair of outputs and scores; and the state.
        """
        return super().extend(query, state, 0, lengths, return_attention_scores)

    def step(
        self, query: Tensor, state: State, index: int | Tensor | None = None, return_attention_scores: bool = False
    ) -> tuple[Results, State]:
        """Reads the memory for one position: `extend` with T = 1."""
        return super().step(query, state, index, return_attention_scores)

    def run(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        state: State = None,
        chunk: Chunk | None = None,
        return_attention_scores: bool = False,
        training: bool | None = False,
        query_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_segment_ids: Tensor | None = None,
        memory_segment_ids: Tensor | None = None,
        stream: Stream = EVERY_POSITION,
        memory_stream: Stream = EVERY_POSITION,
    ) -> tuple[Tensor, Tensor | None, State]:
        rows, length, size = shape_of(x)
        if chunk is None:
            key, value = self._memory_heads(memory, memory_stream)
        else:  # [B W, T, D] -> [B, W T, D]: the beams of a row read the same memory
            check_state(state, Shared)
            key, value, memory_mask = state.value
            x, query_mask = (each if each is None else by_rows(each, key) for each in (x, chunk.present))
        visible = masks.combine(
            masks.padding(query_mask, memory_mask),
            masks.segments(query_segment_ids, memory_segment_ids),
            masks.explicit(attention_mask),
        )
        heads = split_heads(self.query_projection, x, self.head_sizes[0], stream)
        outputs, scores = self._read(
            self._normed(heads, self.query_norm),
            key,
            value,
            visible,
            return_scores=return_attention_scores,
            training=training,
            stream=stream,
        )
        if chunk is not None:
            outputs = ops.reshape(outputs, (rows, length, size))
            scores = None if scores is None else beams_apart(scores, rows, length)
        return outputs, scores, state

    def init_state(self, memory: Tensor, memory_mask: Tensor | None = None) -> Shared:
        """Returns the keys, values and mask of the memory, which are computed once for all steps.

        They are `Shared`: all beams of a row read the same ones.

        Args:
            memory, memory_mask: As for the call.

        Raises:
            ValueError: If the layer is not built or shapes do not match.
        """
        self.check_built()
        memory, memory_mask = as_array("memory", memory), as_array("memory_mask", memory_mask)
        check_axes(self.axes, {"memory": memory, "memory_mask": memory_mask})
        key, value = self._memory_heads(masks.hide(ops.cast(memory, self.compute_dtype), memory_mask))
        memory_mask = None if memory_mask is None else as_boolean("memory_mask", memory_mask)
        return Shared(MemoryHeads(key, value, memory_mask))

    def _memory_heads(self, memory: Tensor, stream: Stream = EVERY_POSITION) -> tuple[Tensor, Tensor]:
        """`[B, S, M]` -> keys and values `[B, H_kv, S, K]`."""
        heads = split_heads(self.memory_projection, memory, self.head_sizes[0], stream)  # [B, 2 H_kv, S, K]
        key, value = ops.split(heads, 2, axis=1)
        return self._normed(key, self.key_norm), value

    def compute_output_shape(self, query_shape: Shape, memory_shape: Shape | None = None) -> Shape:
        return tuple(query_shape)

    def scores_spec(self, query: Tensor, memory: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor((query.shape[0], self.num_heads, query.shape[1], memory.shape[1]), self.compute_dtype)


def by_rows(tensor: Tensor, key: Tensor) -> Tensor:
    """`[B W, T, ...]` -> `[B, W T, ...]`, where B is the number of rows of `key`."""
    return ops.reshape(tensor, (shape_of(key)[0], -1, *tensor.shape[2:]))


def beams_apart(scores: Tensor, rows: int | Tensor, length: int | Tensor) -> Tensor:
    """`[B, H, W T, S]` -> `[B W, H, T, S]`, for B W rows and T positions."""
    batch_size, num_heads, _, source_length = shape_of(scores)
    scores = ops.reshape(scores, (batch_size, num_heads, -1, length, source_length))
    return ops.reshape(ops.swapaxes(scores, 1, 2), (rows, num_heads, length, source_length))
