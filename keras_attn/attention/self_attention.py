"""Multi-head attention of a sequence to itself, whole or step by step."""

import keras
from keras import ops

from keras_attn import masks
from keras_attn.attention.cache import fill, in_use, new_cache, positions, read, write
from keras_attn.attention.multi_head import MultiHead, split_heads
from keras_attn.backend import is_concrete
from keras_attn.base.checks import as_array, check_axes, check_slot, integers, short_repr
from keras_attn.base.slot import register
from keras_attn.positions import HeadPosition, row_positions


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
        query, key, value = self._heads(masks.hide(inputs, padding), row_positions(inputs, positions))
        visible = masks.combine(
            self.mask,
            masks.padding(padding, padding),
            masks.segments(segment_ids, segment_ids),
            masks.explicit(attention_mask),
        )
        bias = self._bias(positions, positions)
        return self._attend(query, key, value, visible, return_attention_scores, training, bias)

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
        length = max_length if self.mask.reach is None else self.mask.reach
        if isinstance(max_length, int):
            length = min(max_length, length)
        sizes = head_size, head_size
        return new_cache(batch_size, key_width // head_size, length, sizes, self.compute_dtype, cache)

    def step(self, inputs, state, index, return_attention_scores=False):
        """One position of the call.

        Args:
            inputs: `[B, D]`.
            state: From `init_state`, `prefill` or the step before.
            index: The position, an integer scalar or `[B]`; each row's goes up by 1 from step to step.
            return_attention_scores: Whether to return the scores too, `[B, H, L]` over the
                places of the cache.

        Returns:
            The output `[B, D]` (or that and the scores) and the new state.

        Raises:
            ValueError: For shapes that do not fit, or an index beyond the cache (where it can be read).
        """
        inputs, index = as_array("inputs", inputs), self._checked_index(index, state)
        sizes = {"D": self.out_projection.units, "B": None if state["key"].shape[0] == 1 else state["key"].shape[0]}
        arguments = {"inputs": inputs} if index.shape[0] == 1 else {"inputs": inputs, "index": index}
        sizes = {letter: size for letter, size in sizes.items() if size is not None}
        check_axes({"inputs": "BD", "index": "B"}, arguments, sizes)
        here = index[:, None]  # [B or 1, 1]
        query, key, value = self._heads(ops.cast(inputs, self.compute_dtype)[:, None], here)
        state = write(of_rows(state, query), key, value, index)
        written = in_use(state) if self.mask.reach is None else state
        held = positions(written, index)  # [B or 1, L]
        places = held[:, None, None]
        visible = self.mask(here[:, None, None], places) & (places >= 0)
        key, value = read(written, self.compute_dtype)
        visible, bias = masks.Explicit(visible), self._bias(here, held)
        outputs = self._attend(query, key, value, visible, return_attention_scores, False, bias)
        if not return_attention_scores:
            return outputs[:, 0], state
        return (outputs[0][:, 0], outputs[1][:, :, 0]), state

    def prefill(self, inputs, lengths, max_length, cache=None):
        """The call for the first positions of each row, and the state to go on from.

        Args:
            inputs: `[B, T, D]`.
            lengths: Integers `[B]`: how many positions each row has; later ones are padding.
            max_length, cache: As for `init_state`.

        Returns:
            `[B, T, D]` and the state.
        """
        self._built_sizes()
        inputs, lengths = as_array("inputs", inputs), integers("lengths", lengths)
        check_axes({"inputs": "BTD", "lengths": "B"}, {"inputs": inputs, "lengths": lengths})
        masks.check_hides_the_future(self.mask)
        if self.mask.reach is None and isinstance(max_length, int) and (inputs.shape[1] or 0) > max_length:
            raise ValueError(
                f"`inputs` may have at most max_length={max_length} positions. "
                f"Received: inputs.shape={tuple(inputs.shape)}."
            )
        inputs = ops.cast(inputs, self.compute_dtype)
        padding = ops.arange(ops.shape(inputs)[1], dtype="int32")[None] < lengths[:, None]
        query, key, value = self._heads(masks.hide(inputs, padding), row_positions(inputs, None))
        visible = masks.combine(self.mask, masks.padding(padding, padding))
        outputs = self._attend(query, key, value, visible, False, False, self._bias(None, None))
        return outputs, fill(self.init_state(ops.shape(inputs)[0], max_length, cache), key, value, lengths)

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

    def _bias(self, query_positions, key_positions):
        return None if self.position is None else self.position.bias(self.num_heads, query_positions, key_positions)

    def _checked_index(self, index, state):
        """Returns `index` as int32 `[B or 1]`."""
        index, length = ops.reshape(integers("index", index), (-1,)), state["key"].shape[2]
        window = self.mask.reach is not None and length is not None and length >= self.mask.reach
        if is_concrete(index) and 0 not in index.shape:
            lowest, highest = int(ops.min(index)), int(ops.max(index))
            if lowest < 0 or (length is not None and not window and highest >= length):
                raise ValueError(
                    f"`index` must be less than max_length={length}, and not negative. "
                    f"Received: index up to {highest}, from {lowest}."
                )
        return index

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, *args, return_attention_scores=False, **kwargs):
        return self._output_spec(inputs, inputs.shape[1], return_attention_scores)


def of_rows(state, heads):
    """Returns the state for as many rows as `heads` `[B, ...]` has, if it is one of a single row."""
    if state["key"].shape[0] != 1 or heads.shape[0] == 1:
        return state
    return {name: ops.repeat(tensor, ops.shape(heads)[0], axis=0) for name, tensor in state.items()}
