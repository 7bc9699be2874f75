"""Stacks of blocks: the encoder and the decoder."""

import keras
from keras import ops

from keras_attn import masks
from keras_attn.attention.chunk import Chunk, Prefilled, Stepwise
from keras_attn.base.checks import check_positive
from keras_attn.base.cloning import clone, comparable
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import alike, register
from keras_attn.base.tensors import as_array, short_repr
from keras_attn.transformer.block import Block, extend_slot, is_plain, with_scores
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
        self.model_size = shapes[0][-1]
        for block in self.blocks:
            self.build_child(block, *shapes)
        if self.final_norm is not None:
            self.build_child(self.final_norm, shapes[0])

    def extend(self, inputs, state, index, lengths=None, return_attention_scores=False):
        """Reads T new positions of each row behind what the state holds.

        Args:
            inputs: `[B, T, D]`, or, of a decoder, `[B W, T, D]` with the W beams of each row side by side.
            state, index, lengths: As for `MultiHeadSelfAttention.extend`.
            return_attention_scores: Whether to return the scores of all blocks too, `[B, N, H, T, S]`.

        Returns:
            The outputs `[B, T, D]` (or them and the scores) and the new state.
        """
        inputs = as_array("inputs", inputs)
        chunk = Chunk.of("inputs", inputs, state, index, lengths, self.model_size)
        inputs = chunk.hide(ops.cast(inputs, self.compute_dtype))
        outputs, scores, states = self.run(inputs, state, chunk, return_attention_scores)
        return ((outputs, scores) if return_attention_scores else outputs), states

    def run(self, x, states, chunk, return_attention_scores=False, training=False, memory=None, **named):
        """The body of `call` and `extend`: sends the stream through all blocks and the final norm.

        Args:
            x: `[B, T, D]`; it trusts its inputs, as `MultiHeadSelfAttention.attend` does.
            states, chunk: Of an extension; None in a call.
            return_attention_scores, training: As for the call.
            memory: `[B, S, M]`, of a decoder's call.
            **named: The call's other arguments.

        Returns:
            The outputs `[B, T, D]`, the scores of all blocks `[B, N, H, T, S]` or None, and the new states.
        """
        tensors = [x] if memory is None else [x, memory]
        named["return_attention_scores"] = return_attention_scores
        scores, new_states = [], []
        for block, state in zip(self.blocks, states or [None] * len(self.blocks), strict=True):
            if is_plain(block, self.block_class):
                outputs, block_scores, state = block.run(*tensors, state=state, chunk=chunk, training=training, **named)
            elif chunk is None:
                outputs, block_scores = with_scores(block(*tensors, training=training, **named))
            else:
                outputs, block_scores, state = extend_slot("block", block, tensors[0], state, chunk, named)
            tensors[0] = outputs
            scores.append(block_scores)
            new_states.append(state)
        outputs = tensors[0] if self.final_norm is None else self.final_norm(tensors[0])
        return outputs, ops.stack(scores, axis=1) if return_attention_scores else None, tuple(new_states)

    def _output_spec(self, specs):
        if not isinstance(specs, tuple):
            return specs
        outputs, scores = specs
        batch, *rest = scores.shape
        return outputs, keras.KerasTensor((batch, self.num_layers, *rest), scores.dtype)


@register
class Encoder(Prefilled, _Stack):
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
        named = {"mask": padding, "attention_mask": attention_mask, "segment_ids": segment_ids, "positions": positions}
        inputs = masks.hide(inputs, padding)
        outputs, scores, _ = self.run(inputs, None, None, return_attention_scores, training, **named)
        return (outputs, scores) if return_attention_scores else outputs

    def init_state(self, batch_size=1, max_length=None, cache=None):
        """Returns the states of all blocks before the first step; arguments as `EncoderBlock.init_state`."""
        return tuple(block.init_state(batch_size, max_length, cache) for block in self.blocks)

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, *args, **kwargs):
        return self._output_spec(self.blocks[-1].compute_output_spec(inputs, **kwargs))


@register
class Decoder(Stepwise, _Stack):
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
        inputs, memory = masks.hide(inputs, inputs_mask), masks.hide(memory, memory_mask)
        named = {"inputs_mask": inputs_mask, "memory_mask": memory_mask, "attention_mask": attention_mask}
        named |= {"memory_attention_mask": memory_attention_mask, "segment_ids": segment_ids}
        named |= {"memory_segment_ids": memory_segment_ids, "positions": positions}
        outputs, scores, _ = self.run(inputs, None, None, return_attention_scores, training, memory=memory, **named)
        return (outputs, scores) if return_attention_scores else outputs

    def init_state(self, memory, memory_mask=None, initial_state=None, max_length=None, cache=None):
        """Returns the states of all blocks before the first step; arguments as `DecoderBlock.init_state`."""
        return tuple(block.init_state(memory, memory_mask, initial_state, max_length, cache) for block in self.blocks)

    def compute_output_shape(self, inputs_shape, memory_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, memory, *args, **kwargs):
        return self._output_spec(self.blocks[-1].compute_output_spec(inputs, memory, **kwargs))
