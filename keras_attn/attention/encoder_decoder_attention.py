"""Multi-head attention of a decoder to the encoder's memory, whole or step by step."""

from keras import ops

from keras_attn import masks
from keras_attn.attention.chunk import Chunk, Stepwise
from keras_attn.attention.multi_head import MultiHead, split_heads
from keras_attn.base.checks import as_boolean, check_axes, check_last_axis, check_together
from keras_attn.base.slot import register
from keras_attn.base.state import SHARED
from keras_attn.base.tensors import as_array


@register
class EncoderDecoderAttention(Stepwise, MultiHead):
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
        self.model_size = query_shape[-1]
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
        query_mask = masks.real_positions(query_mask, query_segment_ids)
        memory_mask = masks.real_positions(memory_mask, memory_segment_ids)
        named = {"query_mask": query_mask, "memory_mask": memory_mask, "attention_mask": attention_mask}
        named |= {"query_segment_ids": query_segment_ids, "memory_segment_ids": memory_segment_ids}
        named |= {"return_attention_scores": return_attention_scores, "training": training}
        heads = self.memory_heads(masks.hide(memory, memory_mask))
        outputs, scores = self.attend(masks.hide(query, query_mask), heads, **named)
        return (outputs, scores) if return_attention_scores else outputs

    def extend(self, query, state, index=None, lengths=None, return_attention_scores=False):
        """Reads the memory for T new positions of each row.

        Args:
            query: `[B, T, D]`, or `[B W, T, D]` with the W beams of each row side by side.
            state: From `init_state`; it stays as it is.
            index: Not needed.
            lengths: Integers `[B]` or `[B W]`: how many of the T positions each row has; None means all.
            return_attention_scores: Whether to return the scores too, `[B W, H, T, S]`.

        Returns:
            The outputs `[B W, T, D]` (or them and the scores) and the state.
        """
        self._built_sizes()
        query = as_array("query", query)
        chunk = Chunk.of("query", query, None, 0, lengths, self.model_size)
        query = chunk.hide(ops.cast(query, self.compute_dtype))
        outputs, scores = self.attend_shared(query, state, chunk, return_attention_scores)
        return ((outputs, scores) if return_attention_scores else outputs), state

    def step(self, query, state, index=None, return_attention_scores=False):
        """Reads the memory for one position: `extend` with T = 1; returns as `MultiHeadSelfAttention.step`."""
        query = as_array("query", query)
        check_axes({"query": "BD"}, {"query": query}, {"D": self.model_size})
        return super().step(query, state, index, return_attention_scores)

    def attend(
        self,
        query,
        heads,
        query_mask=None,
        memory_mask=None,
        attention_mask=None,
        query_segment_ids=None,
        memory_segment_ids=None,
        return_attention_scores=False,
        training=False,
    ):
        """The body of `call` and `extend`: returns outputs `[B, T, D]` and scores or None.

        It trusts its inputs, as `MultiHeadSelfAttention.attend` does; `heads` are the memory's keys and
        values, from `memory_heads`.
        """
        head_size, _, _ = self._sizes("query", query.shape)
        query_heads = self._normed(split_heads(self.query_projection(query), head_size, query), self.query_norm)
        visible = masks.combine(
            masks.padding(query_mask, memory_mask),
            masks.segments(query_segment_ids, memory_segment_ids),
            masks.explicit(attention_mask),
        )
        return self._read(query_heads, *heads, visible, return_scores=return_attention_scores, training=training)

    def attend_shared(self, query, state, chunk, return_attention_scores=False):
        """Reads a memory that the W beams of each row share: `[B W, T, D]`; returns as `attend`."""
        key, value, mask = (state[SHARED].get(name) for name in ("key", "value", "mask"))
        (num_rows, _, source_length, _), (rows, length, size) = ops.shape(key), ops.shape(query)
        beams = ops.reshape(query, (num_rows, -1, size))  # [B, W T, D]
        present = None if chunk.present is None else ops.reshape(chunk.present, (num_rows, -1))
        outputs, scores = self.attend(
            beams, (key, value), present, mask, return_attention_scores=return_attention_scores
        )
        outputs = ops.reshape(outputs, (rows, length, size))
        if scores is not None:  # [B, H, W T, S]
            scores = ops.reshape(scores, (num_rows, self.num_heads, -1, length, source_length))
            scores = ops.reshape(ops.swapaxes(scores, 1, 2), (rows, self.num_heads, length, source_length))
        return outputs, scores

    def init_state(self, memory, memory_mask=None):
        """Returns what all steps read: keys, values and mask of the memory, made once.

        They stand under the key `SHARED`: the beams of a row share them.

        Args:
            memory, memory_mask: As for the call.

        Raises:
            ValueError: If the layer is not built or the shapes do not fit.
        """
        self._built_sizes()
        memory, memory_mask = as_array("memory", memory), as_array("memory_mask", memory_mask)
        check_axes(self.axes, {"memory": memory, "memory_mask": memory_mask})
        key, value = self.memory_heads(masks.hide(ops.cast(memory, self.compute_dtype), memory_mask))
        shared = {"key": key, "value": value}
        if memory_mask is not None:
            shared["mask"] = as_boolean("memory_mask", memory_mask)
        return {SHARED: shared}

    def memory_heads(self, memory):
        """`[B, S, M]` -> keys and values `[B, H_kv, S, K]`."""
        projected = self.memory_projection(memory)  # [B, S, 2 H_kv K]
        head_size, _, _ = self._sizes("query", (None, self.out_projection.units))
        key, value = (split_heads(part, head_size, memory) for part in ops.split(projected, 2, axis=-1))
        return self._normed(key, self.key_norm), value

    def compute_output_shape(self, query_shape, memory_shape):
        return tuple(query_shape)

    def compute_output_spec(self, query, memory, *args, return_attention_scores=False, **kwargs):
        return self._output_spec(query, memory.shape[1], return_attention_scores)
