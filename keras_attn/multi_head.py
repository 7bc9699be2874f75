"""Multi-head attention: of a sequence to itself, and of a decoder to the encoder's memory."""

import keras
from keras import ops

from keras_attn import masks
from keras_attn.checks import check_last_axis, check_slot, check_together
from keras_attn.heads import MultiHead, split_heads
from keras_attn.positions import HeadPosition, row_positions
from keras_attn.slots import register


@register
class MultiHeadSelfAttention(MultiHead):
    """Every position of a sequence attends to the sequence.

    `head_h = softmax(Q_h K_h^T / sqrt(K)) V_h`, `y = [head_1 ; ... ; head_H] W_o`, with
    queries, keys and values all linear in the inputs.

    Args:
        num_heads: Number of query heads H.
        head_size: Size K of a head; D / H by default.
        num_kv_heads: Number of key and value heads, a divisor of H: 1 is multi-query
            (arXiv:1911.02150), between 1 and H grouped-query attention (arXiv:2305.13245).
        mask: Static pattern, for instance `masks.Causal()`; None means all see all.
        position: `Rotary()`, `Alibi()`, `RelativeBias()`; None leaves positions to the embeddings.
        score: `DotProduct(norm, softcap, sinks)`; by default the plain scaled dot product.
        dropout: Rate at which attention scores are dropped in training.
        use_bias: Whether the projections have a bias.
        kernel_initializer: Of the projections.
        kernel: Pins `"dense"` or `"blockwise"` (see `kernels.attention`); scores, where asked for,
            come from the dense one all the same.

    Call arguments:
        inputs: `[B, T, D]`.
        mask, inputs_mask: Padding `[B, T]`, filled in by Keras; `mask` wins.
        attention_mask: Boolean, broadcasts to `[B, H, T, T]`; `[B, T, T]` gets its head axis.
        segment_ids: Integers `[B, T]`: positions see their own segment only, 0 is padding.
        positions: Integers `[B, T]` for `position`; 0 ... T-1 by default.
        return_attention_scores: Whether to return the scores too.

    Returns:
        `[B, T, D]`, or that and the scores `[B, H, T, T]`.

    All masks combine by "and". A position with nothing to attend to has the output bias as
    its output and zero scores.

    Raises:
        ValueError: For head counts or sizes that do not divide, or shapes that do not fit.

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

    axes = {"inputs": "BTD", "mask": "BT", "inputs_mask": "BT", "segment_ids": "BT", "positions": "BT"}
    score_masks = {"attention_mask": "BHTT"}

    def __init__(
        self,
        num_heads,
        head_size=None,
        num_kv_heads=None,
        mask=None,
        position=None,
        score=None,
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        kernel="auto",
        **kwargs,
    ):
        super().__init__(
            num_heads, head_size, num_kv_heads, score, dropout, use_bias, kernel_initializer, kernel, **kwargs
        )
        self.mask = check_slot("mask", mask, masks.Pattern)
        self.position = check_slot("position", position, HeadPosition)
        if isinstance(position, keras.layers.Layer):
            self.adopt("position", position)

    def build(self, inputs_shape):
        head_size, query_width, key_width = self._sizes("inputs", inputs_shape)
        self.in_projection = self._projection("in_projection", query_width + 2 * key_width)
        self.out_projection = self._projection("out_projection", inputs_shape[-1])
        self.build_child(self.in_projection, inputs_shape)
        self.build_child(self.out_projection, (*inputs_shape[:-1], query_width))
        self._build_score(head_size)
        if isinstance(self.position, keras.layers.Layer):
            self.build_child(self.position, (None, self.num_heads, None, None))

    def call(
        self,
        inputs,
        mask=None,
        inputs_mask=None,
        attention_mask=None,
        segment_ids=None,
        positions=None,
        return_attention_scores=False,
        training=None,
    ):
        padding = masks.real_positions(masks.first_given(mask, inputs_mask), segment_ids)
        query, key, value = self._heads(masks.hide(inputs, padding))
        bias = None
        if self.position is not None:
            bias = self.position.bias(self.num_heads, positions, positions)
            positions = row_positions(inputs, positions)
            query, key = self.position.turn(query, positions), self.position.turn(key, positions)
        visible = masks.combine(
            self.mask,
            masks.padding(padding, padding),
            masks.segments(segment_ids, segment_ids),
            masks.explicit(attention_mask),
        )
        return self._attend(query, key, value, visible, return_attention_scores, training, bias)

    def _heads(self, inputs):
        """`[B, T, D]` -> queries `[B, H, T, K]`, keys and values `[B, H_kv, T, K]`."""
        head_size, query_width, key_width = self._sizes("inputs", inputs.shape)
        projected = self.in_projection(inputs)  # [B, T, (H + 2 H_kv) K]
        parts = ops.split(projected, [query_width, query_width + key_width], axis=-1)
        query, key, value = (split_heads(part, head_size) for part in parts)
        return *self._normed(query, key), value

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, *args, return_attention_scores=False, **kwargs):
        return self._output_spec(inputs, inputs.shape[1], return_attention_scores)


@register
class EncoderDecoderAttention(MultiHead):
    """Every position of a decoder attends to the encoder's memory.

    The equations of `MultiHeadSelfAttention`, with keys and values linear in the memory.

    Args:
        num_heads, head_size, num_kv_heads, score, dropout, use_bias, kernel_initializer, kernel: As
            for `MultiHeadSelfAttention`.

    Call arguments:
        query: `[B, T, D]`.
        memory: `[B, S, M]`.
        query_mask, memory_mask: Padding `[B, T]` and `[B, S]`, filled in by Keras.
        attention_mask: Boolean, broadcasts to `[B, H, T, S]`; `[B, T, S]` gets its head axis.
        query_segment_ids, memory_segment_ids: Integers `[B, T]` and `[B, S]`; 0 is padding.
        return_attention_scores: Whether to return the scores too.

    Returns:
        `[B, T, D]`, or that and the scores `[B, H, T, S]`.

    Masks as for `MultiHeadSelfAttention`.

    Raises:
        ValueError: For sizes that do not divide, shapes that do not fit, or segment ids of
            one side only.

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

    def __init__(
        self,
        num_heads,
        head_size=None,
        num_kv_heads=None,
        score=None,
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        kernel="auto",
        **kwargs,
    ):
        super().__init__(
            num_heads, head_size, num_kv_heads, score, dropout, use_bias, kernel_initializer, kernel, **kwargs
        )

    def check_arguments(self, arguments):
        check_together("query_segment_ids", "memory_segment_ids", arguments)
        check_together("memory_segment_ids", "query_segment_ids", arguments)
        return super().check_arguments(arguments)

    def build(self, query_shape, memory_shape):
        check_last_axis("memory", memory_shape)
        head_size, query_width, key_width = self._sizes("query", query_shape)
        self.query_projection = self._projection("query_projection", query_width)
        self.memory_projection = self._projection("memory_projection", 2 * key_width)
        self.out_projection = self._projection("out_projection", query_shape[-1])
        self.build_child(self.query_projection, query_shape)
        self.build_child(self.memory_projection, memory_shape)
        self.build_child(self.out_projection, (*query_shape[:-1], query_width))
        self._build_score(head_size)

    def call(
        self,
        query,
        memory,
        query_mask=None,
        memory_mask=None,
        attention_mask=None,
        query_segment_ids=None,
        memory_segment_ids=None,
        return_attention_scores=False,
        training=None,
    ):
        head_size, _, _ = self._sizes("query", query.shape)
        query_mask = masks.real_positions(query_mask, query_segment_ids)
        memory_mask = masks.real_positions(memory_mask, memory_segment_ids)
        query_heads = split_heads(self.query_projection(masks.hide(query, query_mask)), head_size)
        projected = self.memory_projection(masks.hide(memory, memory_mask))  # [B, S, 2 H_kv K]
        key, value = (split_heads(part, head_size) for part in ops.split(projected, 2, axis=-1))
        query_heads, key = self._normed(query_heads, key)
        visible = masks.combine(
            masks.padding(query_mask, memory_mask),
            masks.segments(query_segment_ids, memory_segment_ids),
            masks.explicit(attention_mask),
        )
        return self._attend(query_heads, key, value, visible, return_attention_scores, training)

    def compute_output_shape(self, query_shape, memory_shape):
        return tuple(query_shape)

    def compute_output_spec(self, query, memory, *args, return_attention_scores=False, **kwargs):
        return self._output_spec(query, memory.shape[1], return_attention_scores)
