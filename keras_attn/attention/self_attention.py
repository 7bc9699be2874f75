"""Multi-head attention of a sequence to itself, for the whole sequence or step by step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn import masks
from keras_attn.attention.cache import Cache, ExactCache
from keras_attn.attention.cache_state import CacheState
from keras_attn.attention.chunk import Chunk
from keras_attn.attention.doors import SequenceDoors
from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.multi_head import MultiHead, split_heads
from keras_attn.attention.stream import EVERY_POSITION, Stream
from keras_attn.base.checks import check_slot
from keras_attn.base.projection_layer import ProjectionArguments, with_projection_arguments
from keras_attn.base.slot import register
from keras_attn.base.state import check_state
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Shape, State, Tensor
from keras_attn.positions import HeadPosition, row_positions

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class MultiHeadSelfAttention(SequenceDoors, MultiHead):
    """Every position of a sequence attends to the positions of the same sequence.

    `head_h = softmax(Q_h K_h^T / sqrt(K)) V_h`, `y = [head_1 ; ... ; head_H] W_o`, where
    queries, keys and values are projections of the inputs.

    Args:
        num_heads: Number of query heads H.
        head_size: Size K of a head; D / H by default.
        num_kv_heads: Number of key and value heads, a divisor of H: 1 is multi-query attention
            (arXiv:1911.02150), between 1 and H grouped-query attention (arXiv:2305.13245). H by default.
        mask: Static pattern, for example `masks.Causal()`; with None, every position attends to all.
        position: `Rotary()`, `Alibi()` or `RelativeBias()`; None if positions are only in the embeddings.
        score: `DotProduct(norm, softcap, sinks, scale)`; the plain scaled dot product by default.
        dropout: Dropout rate of the attention scores in training.
        kernel: `"auto"`, `"dense"`, `"blockwise"` or `"fused"` (see `kernels.attention`). If scores are
            returned, the dense kernel always runs.
        use_bias: Whether the projections have a bias, or a list of the names of those that have one:
            `"in_projection"` (queries, keys and values), `"out_projection"`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
        kernel_constraint, bias_constraint: For the projections, as for `keras.layers.Dense`.

    Call arguments:
        inputs: `[B, T, D]`.
        mask, inputs_mask: Padding mask `[B, T]`, filled in by Keras; `mask` takes precedence.
        attention_mask: Boolean, broadcasts to `[B, H, T, T]`; a mask `[B, T, T]` applies to all heads.
        segment_ids: Integers `[B, T]`: positions attend only to their own segment; 0 is padding.
        positions: Integers `[B, T]`, or `[T]` for all rows, used by `position`; 0 ... T-1 by default.
        return_attention_scores: Whether to return the scores too.

    Returns:
        The outputs `[B, T, D]`, or a pair of outputs and scores `[B, H, T, T]`.

    All masks are combined by "and". If a position has nothing to attend to, its output is the
    output bias and its scores are zero.

    Raises:
        ValueError: If head counts or sizes are not divisible as required, or shapes do not match.

    Example:
    >>> import numpy as np
    >>> from keras_attn import MultiHeadSelfAttention, masks
    >>> layer = MultiHeadSelfAttention(num_heads=4, mask=masks.Causal())
    >>> outputs, scores = layer(np.ones((2, 3, 16), "float32"), return_attention_scores=True)
    >>> np.round(scores[0, 0], 2).tolist()[1]
    [0.5, 0.5, 0.0]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762.
    """

    projections = ("in_projection", "out_projection")

    @with_projection_arguments
    def __init__(
        self,
        num_heads: int,
        head_size: int | None = None,
        num_kv_heads: int | None = None,
        mask: masks.Pattern | None = None,
        position: HeadPosition | None = None,
        score: DotProduct | None = None,
        dropout: float = 0.0,
        kernel: str = "auto",
        **kwargs: Unpack[ProjectionArguments],
    ) -> None:
        super().__init__(num_heads, head_size, num_kv_heads, score, dropout, kernel, **kwargs)
        self.mask = masks.check_pattern("mask", mask)
        self.position = check_slot("position", position, HeadPosition)
        self._borrowed = Borrowed(None)
        if isinstance(position, keras.layers.Layer):
            self.check_child("position", position)

    def build(self, inputs_shape: Shape) -> None:
        model_size = self._set_sizes("inputs", inputs_shape)
        head_size, query_width, key_width = self.head_sizes
        self.in_projection = self.make_projection("in_projection", query_width + 2 * key_width, inputs_shape)
        self.out_projection = self.make_projection("out_projection", model_size, (*inputs_shape[:-1], query_width))
        self._build_score(head_size)
        if isinstance(self.position, keras.layers.Layer):
            self.build_child(self.position, (None, self.num_heads, None, None))

    def borrow_position(self, position: HeadPosition) -> None:
        """Uses a position that another layer owns, which builds and saves it, for example a stack.

        Args:
            position: The position.

        Raises:
            ValueError: If this layer has a position of its own.
        """
        if self.position is not None:
            raise ValueError(
                f"`position` must be None in a layer that borrows one. Received: {short_repr(self.position)}."
            )
        self._borrowed = Borrowed(position)

    @property
    def used_position(self) -> HeadPosition | None:
        """The layer's own position, or the borrowed one."""
        return masks.first_not_none(self.position, self._borrowed.position)

    def run(
        self,
        x: Tensor,
        *,
        state: State = None,
        chunk: Chunk | None = None,
        return_attention_scores: bool = False,
        training: bool | None = False,
        mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
        stream: Stream = EVERY_POSITION,
    ) -> tuple[Tensor, Tensor | None, State]:
        index = None if chunk is None else chunk.index
        query, key, value = self._heads(x, positions if chunk is None else chunk.positions, stream)
        key_index = index  # a call and the first chunk attend only to themselves
        if chunk is not None:
            check_state(state, CacheState)
            state, *held = state.cache.append(state, key, value, index)
            if not chunk.is_first:
                key, value, key_index = held
        visible = masks.combine(
            self.mask,
            masks.padding(mask, mask),
            masks.segments(segment_ids, segment_ids),
            masks.explicit(attention_mask),
        )
        position = self.used_position
        bias = None if position is None else position.bias(self.num_heads, positions, positions)
        outputs, scores = self._read(
            query, key, value, visible, bias, index, key_index, return_attention_scores, training, stream
        )
        return outputs, scores, state

    def init_state(
        self, batch_size: int | Tensor = 1, max_length: int | None = None, cache: Cache | None = None
    ) -> CacheState:
        """Returns the state before the first step: an empty cache of keys and values.

        Args:
            batch_size: Number of rows B. At the first step, a state of one row is repeated for all rows.
            max_length: Maximum number of positions. If the mask reaches back only n positions
                (`Causal() & Window(n)`), the cache needs only n, and None means no maximum.
            cache: How keys and values are stored: `ExactCache()` by default, or `Int8Cache()`.

        Raises:
            ValueError: If the layer is not built, its mask shows the future, or `max_length` is missing.
        """
        self.check_built()
        head_size, _, key_width = self.head_sizes
        mask = masks.check_hides_the_future(self.mask)
        if max_length is None and mask.reach is None:
            raise ValueError(
                "`max_length` must be given: `mask` has no limit on how far back it reaches. "
                f"Received: {short_repr(self.mask)}."
            )
        kind = check_slot("cache", cache, Cache) or ExactCache()
        sizes = head_size, head_size
        return kind.empty(batch_size, key_width // head_size, max_length, sizes, self.compute_dtype, mask.reach)

    def _heads(
        self, inputs: Tensor, positions: Tensor | None, stream: Stream = EVERY_POSITION
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`[B, T, D]`, `[B or 1, T]` or None -> queries `[B, H, T, K]`, keys and values `[B, H_kv, T, K]`."""
        head_size, query_width, key_width = self.head_sizes
        heads = split_heads(self.in_projection, inputs, head_size, stream)  # [B, H + 2 H_kv, T, K]
        ends = query_width // head_size, (query_width + key_width) // head_size
        query, key, value = ops.split(heads, 3 if query_width == key_width else ends, axis=1)
        query, key = self._normed(query, self.query_norm), self._normed(key, self.key_norm)
        position = self.used_position
        if position is None:
            return query, key, value
        positions = row_positions(query, positions, axis=2)
        return position.turn(query, positions), position.turn(key, positions), value

    def scores_spec(self, inputs: Tensor) -> keras.KerasTensor:
        batch_size, length, _ = inputs.shape
        return keras.KerasTensor((batch_size, self.num_heads, length, length), self.compute_dtype)


@dataclasses.dataclass(frozen=True)
class Borrowed:
    """Refers to a position that another layer owns. Keras does not look into it, so only the owner saves it."""

    position: HeadPosition | None
