"""The Transformer's two blocks: sublayers wired into a residual stream."""

import keras

from keras_attn import masks
from keras_attn.checks import check_positive, check_rate, check_slot, check_together
from keras_attn.composite import Composite
from keras_attn.feed_forward import FeedForward
from keras_attn.multi_head import EncoderDecoderAttention, MultiHeadSelfAttention
from keras_attn.positions import HeadPosition
from keras_attn.residual import PostNorm, Residual
from keras_attn.slots import register


class Block(Composite):
    """What both blocks share: the slots, and one norm and one dropout per sublayer."""

    num_sublayers = 0

    def __init__(self, num_heads, hidden_size, dropout, mask, position, residual, feed_forward, attention, **kwargs):
        super().__init__(**kwargs)
        check_positive("num_heads", num_heads)
        check_positive("hidden_size", hidden_size)
        check_rate("dropout", dropout)
        policy = self.dtype_policy
        self.num_heads = num_heads
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.mask = check_slot("mask", mask, masks.Pattern)
        self.position = check_slot("position", position, HeadPosition)
        self.residual = check_slot("residual", residual, Residual) or PostNorm()
        if attention is None:
            attention = MultiHeadSelfAttention(num_heads, mask=mask, position=position, dtype=policy, name="attention")
        self.attention = self.adopt("attention", attention)
        self._check_attention()
        if feed_forward is None:
            feed_forward = FeedForward(hidden_size, dtype=policy, name="feed_forward")
        self.feed_forward = self.adopt("feed_forward", feed_forward)
        self.norms = [self.residual.norm.make(f"norm_{i}", policy) for i in range(self.num_sublayers)]
        self.dropouts = [
            keras.layers.Dropout(dropout, dtype=policy, name=f"dropout_{i}") for i in range(self.num_sublayers)
        ]

    def _check_attention(self):
        """Heads, mask or position beside an attention that has others would be silently ignored."""
        if not isinstance(self.attention, MultiHeadSelfAttention):
            return
        for name in ("num_heads", "mask", "position"):
            own, attentions = getattr(self, name), getattr(self.attention, name)
            if own is not None and own != attentions:
                raise ValueError(
                    f"`{name}` must be the `{name}` of the `attention` it is given with. "
                    f"Received: {name}={own!r}, attention.{name}={attentions!r}."
                )

    def _sublayer(self, index, x, function, training):
        """Wires sublayer number `index` into the stream `x` `[B, T, D]`."""
        return self.residual(x, lambda y: self.dropouts[index](function(y), training=training), self.norms[index])

    def _build_around(self, inputs_shape):
        self.build_child(self.attention, inputs_shape)
        self.build_child(self.feed_forward, inputs_shape)
        output_shape = self.feed_forward.compute_output_shape(inputs_shape)
        if output_shape[-1] != inputs_shape[-1]:
            raise ValueError(
                f"`feed_forward` must return the shape of its inputs, {tuple(inputs_shape)}. "
                f"Received: {tuple(output_shape)}."
            )
        for norm in self.norms:
            self.build_child(norm, inputs_shape)


@register
class EncoderBlock(Block):
    """Self-attention and feed-forward, each wired into the residual stream.

    With `residual=PostNorm()`: `h = Norm(x + SelfAttention(x))`, `y = Norm(h + FeedForward(h))`.
    With `mask=Causal()` this is the decoder-only (GPT) block.

    Args:
        num_heads: Number of heads of the default attention.
        hidden_size: Inner size of the default feed-forward layer.
        dropout: Rate at which each sublayer's outputs are dropped in training.
        mask: Static pattern of the self-attention, for instance `masks.Window(128)`.
        position: For instance `Rotary()`.
        residual: `PostNorm()`, `PreNorm()`, `InnerNorm()` or your own wiring.
        feed_forward: A layer `[B, T, D] -> [B, T, D]` in place of `FeedForward(hidden_size)`.
        attention: A layer in place of `MultiHeadSelfAttention(num_heads, ...)`.

    Call arguments:
        inputs: `[B, T, D]`.
        mask, inputs_mask, attention_mask, segment_ids, positions, return_attention_scores: As
            for `MultiHeadSelfAttention`.

    Returns:
        `[B, T, D]`, or that and the scores `[B, H, T, T]`.

    Masks as for `MultiHeadSelfAttention`; padded inputs count as zeros.

    Raises:
        ValueError: For shapes or slots that do not fit, or a slot of another dtype policy.

    Example:
    >>> import numpy as np
    >>> from keras_attn import EncoderBlock
    >>> EncoderBlock(num_heads=4, hidden_size=64)(np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 5, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.1.
    """

    axes = MultiHeadSelfAttention.axes
    score_masks = MultiHeadSelfAttention.score_masks
    num_sublayers = 2

    def __init__(
        self,
        num_heads,
        hidden_size,
        dropout=0.1,
        mask=None,
        position=None,
        residual=PostNorm(),  # noqa: B008 - slots never change
        feed_forward=None,
        attention=None,
        **kwargs,
    ):
        super().__init__(num_heads, hidden_size, dropout, mask, position, residual, feed_forward, attention, **kwargs)

    def build(self, inputs_shape):
        self._build_around(inputs_shape)

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
        scores = None

        def attend(x):
            nonlocal scores
            y, scores = with_scores(
                self.attention(
                    x,
                    mask=padding,
                    attention_mask=attention_mask,
                    segment_ids=segment_ids,
                    positions=positions,
                    return_attention_scores=return_attention_scores,
                    training=training,
                )
            )
            return y

        x = self._sublayer(0, masks.hide(inputs, padding), attend, training)
        y = self._sublayer(1, x, lambda x: self.feed_forward(x, training=training), training)
        return (y, scores) if return_attention_scores else y

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, *args, return_attention_scores=False, **kwargs):
        return self.attention.compute_output_spec(inputs, return_attention_scores=return_attention_scores)


@register
class DecoderBlock(Block):
    """Masked self-attention, encoder-decoder attention and feed-forward.

    With `residual=PostNorm()`: `h = Norm(x + SelfAttention(x))`,
    `g = Norm(h + EncoderDecoderAttention(h, memory))`, `y = Norm(g + FeedForward(g))`.

    Args:
        num_heads, hidden_size, dropout, position, residual, feed_forward, attention: As for
            `EncoderBlock`.
        mask: Static pattern of the self-attention.
        memory_attention: A layer in place of `EncoderDecoderAttention(num_heads)`.

    Call arguments:
        inputs: `[B, T, D]`.
        memory: `[B, S, M]`.
        inputs_mask, memory_mask: Padding `[B, T]` and `[B, S]`, filled in by Keras.
        attention_mask: Boolean, broadcasts to `[B, H, T, T]`, of the self-attention.
        memory_attention_mask: Boolean, broadcasts to `[B, H, T, S]`.
        segment_ids, memory_segment_ids: Integers `[B, T]` and `[B, S]`; 0 is padding.
        positions: Integers `[B, T]`.
        return_attention_scores: Whether to return the encoder-decoder scores too.

    Returns:
        `[B, T, D]`, or that and the encoder-decoder scores `[B, H, T, S]`.

    Masks as for `MultiHeadSelfAttention`; padded inputs and memory count as zeros.

    Raises:
        ValueError: For shapes or slots that do not fit, or a slot of another dtype policy.

    Example:
    >>> import numpy as np
    >>> from keras_attn import DecoderBlock
    >>> inputs, memory = np.ones((2, 3, 16), "float32"), np.ones((2, 5, 8), "float32")
    >>> DecoderBlock(num_heads=4, hidden_size=64)(inputs, memory).shape.as_list()
    [2, 3, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.1.
    """

    axes = {
        "inputs": "BTD",
        "memory": "BSM",
        "inputs_mask": "BT",
        "memory_mask": "BS",
        "segment_ids": "BT",
        "memory_segment_ids": "BS",
        "positions": "BT",
    }
    score_masks = {"attention_mask": "BHTT", "memory_attention_mask": "BHTS"}
    num_sublayers = 3

    def __init__(
        self,
        num_heads,
        hidden_size,
        dropout=0.1,
        mask=masks.Causal(),  # noqa: B008 - slots never change
        position=None,
        residual=PostNorm(),  # noqa: B008
        feed_forward=None,
        attention=None,
        memory_attention=None,
        **kwargs,
    ):
        super().__init__(num_heads, hidden_size, dropout, mask, position, residual, feed_forward, attention, **kwargs)
        if memory_attention is None:
            memory_attention = EncoderDecoderAttention(num_heads, dtype=self.dtype_policy, name="memory_attention")
        self.memory_attention = self.adopt("memory_attention", memory_attention)
        if isinstance(memory_attention, EncoderDecoderAttention) and memory_attention.num_heads != num_heads:
            raise ValueError(
                "`num_heads` must be the `num_heads` of the `memory_attention` it is given with. "
                f"Received: num_heads={num_heads}, memory_attention.num_heads={memory_attention.num_heads}."
            )

    def check_arguments(self, arguments):
        check_together("segment_ids", "memory_segment_ids", arguments)
        return super().check_arguments(arguments)

    def build(self, inputs_shape, memory_shape):
        self._build_around(inputs_shape)
        self.build_child(self.memory_attention, inputs_shape, memory_shape)

    def call(
        self,
        inputs,
        memory,
        inputs_mask=None,
        memory_mask=None,
        attention_mask=None,
        memory_attention_mask=None,
        segment_ids=None,
        memory_segment_ids=None,
        positions=None,
        return_attention_scores=False,
        training=None,
    ):
        inputs_mask = masks.real_positions(inputs_mask, segment_ids)
        memory_mask = masks.real_positions(memory_mask, memory_segment_ids)
        scores = None

        def attend(x):
            return self.attention(
                x,
                mask=inputs_mask,
                attention_mask=attention_mask,
                segment_ids=segment_ids,
                positions=positions,
                training=training,
            )

        def read(x):
            nonlocal scores
            y, scores = with_scores(
                self.memory_attention(
                    x,
                    memory,
                    query_mask=inputs_mask,
                    memory_mask=memory_mask,
                    attention_mask=memory_attention_mask,
                    query_segment_ids=None if memory_segment_ids is None else segment_ids,
                    memory_segment_ids=memory_segment_ids,
                    return_attention_scores=return_attention_scores,
                    training=training,
                )
            )
            return y

        memory = masks.hide(memory, memory_mask)
        x = self._sublayer(0, masks.hide(inputs, inputs_mask), attend, training)
        x = self._sublayer(1, x, read, training)
        y = self._sublayer(2, x, lambda x: self.feed_forward(x, training=training), training)
        return (y, scores) if return_attention_scores else y

    def compute_output_shape(self, inputs_shape, memory_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, memory, *args, return_attention_scores=False, **kwargs):
        return self.memory_attention.compute_output_spec(
            inputs, memory, return_attention_scores=return_attention_scores
        )


def with_scores(outputs):
    """Returns (outputs, scores); None for the scores where an attention returned none."""
    return outputs if isinstance(outputs, tuple) else (outputs, None)
