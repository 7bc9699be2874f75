"""The Transformer's encoder block: self-attention and feed-forward with residual connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from keras_attn import masks
from keras_attn.attention.cache import Cache
from keras_attn.attention.chunk import Chunk
from keras_attn.attention.doors import SequenceDoors
from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.base.slot import register
from keras_attn.base.slot_layers import check_given, stepwise
from keras_attn.base.types import Activation, LayerArguments, Shape, State, Tensor
from keras_attn.positions import HeadPosition
from keras_attn.transformer.block import Block
from keras_attn.transformer.residual import PostNorm, Residual

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class EncoderBlock(SequenceDoors, Block):
    """Self-attention and feed-forward, each with a residual connection.

    With `residual=PostNorm()`: `h = Norm(x + SelfAttention(x))`, `y = Norm(h + FeedForward(h))`.
    With `mask=Causal()` this is the decoder-only (GPT) block.

    Args:
        num_heads: Number of heads of the default attention.
        hidden_size: Inner size of the default feed-forward layer.
        dropout: Dropout rate of each sublayer's outputs in training.
        mask: Static pattern of the self-attention, for example `masks.Window(128)`.
        position: Positions of the self-attention, for example `Rotary()`.
        residual: `PostNorm()`, `PreNorm()`, `InnerNorm()`, `SandwichNorm()` or a custom subclass of `Residual`.
        feed_forward: A layer `[B, T, D] -> [B, T, D]` to use instead of `FeedForward(hidden_size, activation)`.
            If it has a `hidden_size`, that must be the block's.
        attention: A layer `[B, T, D] -> [B, T, D]` to use instead of `MultiHeadSelfAttention(num_heads, ...)`.
            It must accept all call arguments below that are given.
        activation: Activation of the default feed-forward layer, ReLU if None. If `feed_forward` is given too,
            its activation must be the same.

    Call arguments:
        inputs: `[B, T, D]`.
        mask, inputs_mask, attention_mask, segment_ids, positions, return_attention_scores: As
            for `MultiHeadSelfAttention`.

    Returns:
        The outputs `[B, T, D]`, or a pair of outputs and scores `[B, H, T, T]`.

    Masks work as in `MultiHeadSelfAttention`; padded inputs are treated as zeros.

    Raises:
        ValueError: If shapes do not match, or a layer does not fit its slot or has another dtype policy.

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
        num_heads: int,
        hidden_size: int,
        dropout: float = 0.1,
        mask: masks.Pattern | None = None,
        position: HeadPosition | None = None,
        residual: Residual = PostNorm(),  # noqa: B008 - slots are immutable
        feed_forward: keras.layers.Layer | None = None,
        attention: keras.layers.Layer | None = None,
        activation: Activation | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            num_heads, hidden_size, dropout, mask, position, residual, feed_forward, attention, activation, **kwargs
        )

    def build(self, inputs_shape: Shape) -> None:
        self._build_around(inputs_shape)

    def init_state(
        self, batch_size: int | Tensor = 1, max_length: int | None = None, cache: Cache | None = None
    ) -> State:
        """Returns the state before the first step, as `MultiHeadSelfAttention.init_state` does."""
        return stepwise("attention", self.attention).init_state(batch_size, max_length, cache)

    def run(
        self, x: Tensor, *, state: State = None, chunk: Chunk | None = None, training: bool | None = False, **named: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        y, scores, state = self.part("attention", [self.before(0, x)], state, chunk, training=training, **named)
        x = self.after(0, x, y, training)
        y = self.feed(self.before(1, x), training)
        return self.after(1, x, y, training), scores, state

    def scores_spec(self, inputs: Tensor) -> keras.KerasTensor:
        return self.attention.compute_output_spec(inputs, return_attention_scores=True)[1]

    def check_slots(self, arguments: Mapping[str, object]) -> None:
        """Raises a `ValueError` for call arguments that the layer in the slot does not accept."""
        padding = masks.first_not_none(*(arguments.get(name) for name in ("mask", "inputs_mask", "segment_ids")))
        others = ("attention_mask", "segment_ids", "positions", "return_attention_scores")
        named = {"mask": padding, **{name: arguments.get(name) for name in others}}
        check_given("attention", self.attention, named)
