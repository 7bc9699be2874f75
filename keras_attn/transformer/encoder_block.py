"""The Transformer's encoder block: self-attention and feed-forward in a residual stream."""

from keras_attn import masks
from keras_attn.attention.doors import SequenceDoors
from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.base.slot import register
from keras_attn.base.slot_layers import check_given, stepwise
from keras_attn.transformer.block import Block
from keras_attn.transformer.residual import PostNorm


@register
class EncoderBlock(SequenceDoors, Block):
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
        feed_forward: A layer `[B, T, D] -> [B, T, D]` in place of `FeedForward(hidden_size)`. Its own
            `hidden_size`, where it has one, must be that of the block.
        attention: A layer `[B, T, D] -> [B, T, D]` in place of `MultiHeadSelfAttention(num_heads, ...)`;
            the call arguments below are for it to take, and raise where it does not take one that is given.

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

    def init_state(self, batch_size=1, max_length=None, cache=None):
        """Returns the state before the first step, as `MultiHeadSelfAttention.init_state` does."""
        return stepwise("attention", self.attention).init_state(batch_size, max_length, cache)

    def run(self, x, *, state=None, chunk=None, training=False, **named):
        y, scores, state = self.part("attention", [self.before(0, x)], state, chunk, training=training, **named)
        x = self.after(0, x, y, training)
        y = self.feed(self.before(1, x), training)
        return self.after(1, x, y, training), scores, state

    def scores_spec(self, inputs):
        return self.attention.compute_output_spec(inputs, return_attention_scores=True)[1]

    def check_slots(self, arguments):
        """Raises a `ValueError` for arguments of a call that the layer in the slot does not take."""
        padding = masks.first_not_none(*(arguments.get(name) for name in ("mask", "inputs_mask", "segment_ids")))
        others = ("attention_mask", "segment_ids", "positions", "return_attention_scores")
        named = {"mask": padding, **{name: arguments.get(name) for name in others}}
        check_given("attention", self.attention, named)
