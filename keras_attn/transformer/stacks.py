"""Stacks of blocks: the encoder and the decoder."""

import keras
from keras import ops

from keras_attn import masks
from keras_attn.base.checks import as_array, check_positive, short_repr
from keras_attn.base.cloning import clone, comparable
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import alike, register
from keras_attn.transformer.block import Block, with_scores
from keras_attn.transformer.decoder_block import DecoderBlock
from keras_attn.transformer.encoder_block import EncoderBlock


class _Stack(BaseLayer):
    """What both stacks share: the blocks, the final norm, the scores of all blocks."""

    block_class: type[Block] = Block

    def __init__(self, num_layers=6, block=None, **kwargs):
        super().__init__(**kwargs)
        check_positive("num_layers", num_layers)
        if block is None:
            block = self.block_class(num_heads=8, hidden_size=2048, dtype=self.dtype_policy)
        self.num_layers = num_layers
        self.blocks = self._make_blocks(block)
        residual = self.blocks[-1].residual
        self.final_norm = residual.norm.make("final_norm", self.dtype_policy) if residual.final_norm else None

    def _make_blocks(self, block):
        """Clones one block, or takes as many as there are layers; keeps no prototype beside them."""
        given = list(block) if isinstance(block, (list, tuple)) else [block]
        for item in given:
            if not isinstance(item, self.block_class):
                raise ValueError(
                    f"`block` must be a {self.block_class.__name__} or a list of them. "
                    f"Received: block={short_repr(item)}."
                )
            if self.check_child("block", item).built:
                raise ValueError(f"`block` must not be built: a stack clones it. Received: {short_repr(item)}.")
        if len({item.num_heads for item in given}) > 1:
            raise ValueError(f"All of `block` must have equal `num_heads`. Received: {[i.num_heads for i in given]}.")
        if isinstance(block, self.block_class):
            return [clone(block, f"block_{i}") for i in range(self.num_layers)]
        if len(given) != self.num_layers:
            raise ValueError(
                f"`block` must hold num_layers={self.num_layers} blocks where it is a list. Received: {len(given)}."
            )
        return [clone(item, f"block_{i}") for i, item in enumerate(given)]

    @property
    def block(self):
        """The block all layers are alike to, or the list of them where they differ."""
        configs = [{**comparable(block), "name": None} for block in self.blocks]
        return self.blocks[0] if all(alike(config, configs[0]) for config in configs) else list(self.blocks)

    def check_arguments(self, arguments):
        for block in self.blocks[1:]:
            block.check_slots(arguments)
        return self.blocks[0].check_arguments(arguments)

    def _build_around(self, *shapes):
        for block in self.blocks:
            self.build_child(block, *shapes)
        if self.final_norm is not None:
            self.build_child(self.final_norm, shapes[0])

    def _run(self, x, return_attention_scores, training, *memory, **arguments):
        """Sends the stream `[B, T, D]` through all blocks."""
        scores = []
        for block in self.blocks:
            if return_attention_scores:
                x, block_scores = block(x, *memory, return_attention_scores=True, training=training, **arguments)
                scores.append(block_scores)
            else:
                x = block(x, *memory, training=training, **arguments)
        if self.final_norm is not None:
            x = self.final_norm(x)
        return (x, ops.stack(scores, axis=1)) if return_attention_scores else x  # [B, N, H, T, S]

    def _start(self, *arguments, **named):
        """Returns the states of all blocks before the first step."""
        return tuple(block.init_state(*arguments, **named) for block in self.blocks)

    def step(self, inputs, state, index, return_attention_scores=False):
        """One position of the call.

        Args:
            inputs: `[B, D]`, or `[B W, D]` with the W beams of each row side by side.
            state: From `init_state` or the step before.
            index: The position, an integer scalar or `[B]`.
            return_attention_scores: Whether to return the scores of all blocks too, `[B, N, H, S]`.

        Returns:
            The output `[B, D]` (or that and the scores) and the new state.
        """
        x, states, scores = as_array("inputs", inputs), [], []
        for block, block_state in zip(self.blocks, state, strict=True):
            outputs, block_state = block.step(x, block_state, index, return_attention_scores)
            x, block_scores = with_scores(outputs)
            states.append(block_state)
            scores.append(block_scores)
        x = x if self.final_norm is None else self.final_norm(x[:, None])[:, 0]  # the rank it was built with
        return ((x, ops.stack(scores, axis=1)) if return_attention_scores else x), tuple(states)

    def _output_spec(self, specs):
        if not isinstance(specs, tuple):
            return specs
        outputs, scores = specs
        batch, *rest = scores.shape
        return outputs, keras.KerasTensor((batch, self.num_layers, *rest), scores.dtype)


@register
class Encoder(_Stack):
    """N encoder blocks, and a final norm where their wiring wants one.

    Args:
        num_layers: Number of blocks N.
        block: An `EncoderBlock`, cloned N times, or a list of N of them. By default the paper's:
            8 heads, feed-forward 2,048.

    Call arguments:
        As `EncoderBlock`.

    Returns:
        `[B, T, D]`, or that and the scores of all blocks `[B, N, H, T, T]`.

    Raises:
        ValueError: If `block` is no encoder block, or of another dtype policy.

    Example:
    >>> import numpy as np
    >>> from keras_attn import Encoder, EncoderBlock
    >>> encoder = Encoder(num_layers=2, block=EncoderBlock(num_heads=4, hidden_size=64))
    >>> encoder(np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 5, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.1.
    """

    axes = EncoderBlock.axes
    score_masks = EncoderBlock.score_masks
    block_class = EncoderBlock

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
        return self._run(
            masks.hide(inputs, padding),
            return_attention_scores,
            training,
            mask=padding,
            attention_mask=attention_mask,
            segment_ids=segment_ids,
            positions=positions,
        )

    def init_state(self, batch_size=1, max_length=None, cache=None):
        """Returns the states of all blocks before the first step; arguments as `EncoderBlock.init_state`."""
        return self._start(batch_size, max_length, cache)

    def prefill(self, inputs, lengths, max_length, cache=None):
        """The call for the first positions, and the state after; as `MultiHeadSelfAttention.prefill`."""
        x, states = as_array("inputs", inputs), []
        for block in self.blocks:
            x, state = block.prefill(x, lengths, max_length, cache)
            states.append(state)
        return (x if self.final_norm is None else self.final_norm(x)), tuple(states)

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, *args, **kwargs):
        return self._output_spec(self.blocks[-1].compute_output_spec(inputs, **kwargs))


@register
class Decoder(_Stack):
    """N decoder blocks, and a final norm where their wiring wants one.

    Args:
        num_layers: Number of blocks N.
        block: A `DecoderBlock`, cloned N times, or a list of N of them. By default the paper's:
            8 heads, feed-forward 2,048.

    Call arguments:
        As `DecoderBlock`.

    Returns:
        `[B, T, D]`, or that and the encoder-decoder scores of all blocks `[B, N, H, T, S]`.

    Raises:
        ValueError: If `block` is no decoder block, or of another dtype policy.

    Example:
    >>> import numpy as np
    >>> from keras_attn import Decoder, DecoderBlock
    >>> decoder = Decoder(num_layers=2, block=DecoderBlock(num_heads=4, hidden_size=64))
    >>> decoder(np.ones((2, 3, 16), "float32"), np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 3, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.1.
    """

    axes = DecoderBlock.axes
    score_masks = DecoderBlock.score_masks
    block_class = DecoderBlock

    def build(self, inputs_shape, memory_shape):
        self._build_around(inputs_shape, memory_shape)

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
        return self._run(
            masks.hide(inputs, inputs_mask),
            return_attention_scores,
            training,
            masks.hide(memory, memory_mask),
            inputs_mask=inputs_mask,
            memory_mask=memory_mask,
            attention_mask=attention_mask,
            memory_attention_mask=memory_attention_mask,
            segment_ids=segment_ids,
            memory_segment_ids=memory_segment_ids,
            positions=positions,
        )

    def init_state(self, memory, memory_mask=None, initial_state=None, max_length=None, cache=None):
        """Returns the states of all blocks before the first step; arguments as `DecoderBlock.init_state`."""
        return self._start(memory, memory_mask, initial_state, max_length, cache)

    def compute_output_shape(self, inputs_shape, memory_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, memory, *args, **kwargs):
        return self._output_spec(self.blocks[-1].compute_output_spec(inputs, memory, **kwargs))
