"""Multi-head attention of a sequence to itself, whole or step by step."""

import keras
from keras import ops

from keras_attn import masks
from keras_attn.attention.cache import Cache, ExactCache
from keras_attn.attention.chunk import Chunk, Prefilled
from keras_attn.attention.multi_head import MultiHead, split_heads
from keras_attn.base.checks import check_slot
from keras_attn.base.slot import register
from keras_attn.base.tensors import as_array, short_repr
from keras_attn.positions import HeadPosition, row_positions


@register
class MultiHeadSelfAttention(Prefilled, MultiHead):
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
        positions: Integers `[B, T]`, or `[T]` for all rows alike, for `position`; 0 ... T-1 by default.
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
        self.mask = masks.check_pattern("mask", mask)
        self.position = check_slot("position", position, HeadPosition)
        if isinstance(position, keras.layers.Layer):
            self.check_child("position", position)

    def build(self, inputs_shape):
        head_size, query_width, key_width = self._sizes("inputs", inputs_shape)
        self.model_size = inputs_shape[-1]
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
        named = {"mask": padding, "attention_mask": attention_mask, "segment_ids": segment_ids, "positions": positions}
        named |= {"return_attention_scores": return_attention_scores, "training": training}
        outputs, scores, _ = self.attend(masks.hide(inputs, padding), **named)
        return (outputs, scores) if return_attention_scores else outputs

    def extend(self, inputs, state, index, lengths=None, return_attention_scores=False):
        """Reads T new positions of each row behind what the state holds.

        Args:
            inputs: `[B, T, D]`.
            state: From `init_state`, `prefill`, or the `extend` or `step` before.
            index: Index of the first new position, an integer scalar or `[B]`. It may go back: what the
                state holds at it and behind it is then dropped.
            lengths: Integers `[B]`: how many of the T positions each row has, none to all; later ones
                are padding. None means all.
            return_attention_scores: Whether to return the scores too, `[B, H, T, S]` over what was read
                (the places of the cache, or the chunk).

        Returns:
            The outputs `[B, T, D]` (or them and the scores) and the new state. With an exact cache they
            equal those of the call, position by position.

        Raises:
            ValueError: For shapes that do not fit, an index beyond the cache or further back than a
                rolling cache holds (where it can be seen), or a chunk longer than the cache.
        """
        self._built_sizes()
        inputs = as_array("inputs", inputs)
        chunk = Chunk.of("inputs", inputs, state, index, lengths, self.model_size)
        inputs = chunk.hide(ops.cast(inputs, self.compute_dtype))
        outputs, scores, state = self.attend(inputs, state, chunk, return_attention_scores=return_attention_scores)
        return ((outputs, scores) if return_attention_scores else outputs), state

    def attend(
        self,
        inputs,
        state=None,
        chunk=None,
        mask=None,
        attention_mask=None,
        segment_ids=None,
        positions=None,
        return_attention_scores=False,
        training=False,
    ):
        """The body of `call` and `extend`: returns outputs, scores or None, and the new state.

        It trusts its inputs: checks are made, and NaN is stopped, at the doors. A call has neither state
        nor chunk, an extension has no masks of its own.
        """
        index = None if chunk is None else chunk.index
        standing = positions if chunk is None else chunk.positions
        query, key, value = self._heads(inputs, row_positions(inputs, standing))
        key_index = index
        if state is not None:
            state, *held = state.cache.append(state, key, value, index)
            if not chunk.is_first:
                key, value, key_index = held
        visible = masks.combine(
            self.mask,
            masks.padding(mask, mask),
            masks.segments(segment_ids, segment_ids),
            masks.explicit(attention_mask),
        )
        bias = None if self.position is None else self.position.bias(self.num_heads, positions, positions)
        outputs, scores = self._read(
            query, key, value, visible, bias, index, key_index, return_attention_scores, training
        )
        return outputs, scores, state

    def init_state(self, batch_size=1, max_length=None, cache=None):
        """Returns the state before the first step: an empty cache of keys and values.

        Args:
            batch_size: Number of rows B; a state of one row serves any number at its first step.
            max_length: Number of positions there will be at most. A mask that only reaches back
                n positions (`Causal() & Window(n)`) needs no more than n, and then no limit.
            cache: How they are kept: `ExactCache()` by default, or `Int8Cache()`.

        Raises:
            ValueError: If the layer is not built, its mask shows the future, or there is no limit.
        """
        head_size, _, key_width = self._built_sizes()
        masks.check_hides_the_future(self.mask)
        if max_length is None and self.mask.reach is None:
            raise ValueError(
                f"`max_length` must be given: `mask` may look back without end. Received: {short_repr(self.mask)}."
            )
        kind = check_slot("cache", cache, Cache) or ExactCache()
        sizes = head_size, head_size
        return kind.empty(batch_size, key_width // head_size, max_length, sizes, self.compute_dtype, self.mask.reach)

    def _heads(self, inputs, positions):
        """`[B, T, D]`, `[B or 1, T]` -> queries `[B, H, T, K]`, keys and values `[B, H_kv, T, K]`."""
        head_size, query_width, key_width = self._sizes("inputs", inputs.shape)
        projected = self.in_projection(inputs)  # [B, T, (H + 2 H_kv) K]
        parts = ops.split(projected, [query_width, query_width + key_width], axis=-1)
        query, key, value = (split_heads(part, head_size, inputs) for part in parts)
        query, key = self._normed(query, self.query_norm), self._normed(key, self.key_norm)
        if self.position is None:
            return query, key, value
        return self.position.turn(query, positions), self.position.turn(key, positions), value

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, *args, return_attention_scores=False, **kwargs):
        return self._output_spec(inputs, inputs.shape[1], return_attention_scores)
