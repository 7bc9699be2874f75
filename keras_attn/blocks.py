"""The Transformer's two blocks: sublayers wired into a residual stream."""

from keras_attn import masks
from keras_attn.checks import check_together
from keras_attn.multi_head import EncoderDecoderAttention, MultiHeadSelfAttention
from keras_attn.residual import PostNorm
from keras_attn.slots import register
from keras_attn.sublayers import Block, with_scores


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
