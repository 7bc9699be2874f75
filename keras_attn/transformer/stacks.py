"""Stacks of blocks: the encoder and the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_attn import masks
from keras_attn.attention.chunk import Chunk
from keras_attn.attention.doors import Doors, MemoryDoors, SequenceDoors
from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.attention.stream import EVERY_POSITION, RealPositions, Stream
from keras_attn.backend import has_free_shapes
from keras_attn.base.checks import check_positive, check_slot
from keras_attn.base.cloning import clone, comparable
from keras_attn.base.slot import alike, register
from keras_attn.base.slot_layers import is_plain, run_slot
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import LayerArguments, Shape, State, Tensor
from keras_attn.positions import HeadPosition
from keras_attn.transformer.block import Block
from keras_attn.transformer.decoder_block import DecoderBlock
from keras_attn.transformer.encoder_block import EncoderBlock

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Stack(Doors):
    """Base class of both stacks: the blocks, the final norm, and the scores of all blocks."""

    block_class: type[Block] = Block

    def __init__(
        self,
        num_layers: int = 6,
        block: Block | list[Block] | tuple[Block, ...] | None = None,
        position: HeadPosition | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_positive("num_layers", num_layers)
        if block is None:
            block = self.block_class(num_heads=8, hidden_size=2048, dtype=self.dtype_policy)
        self.num_layers = num_layers
        self.blocks = self._make_blocks(block)
        self.position = check_slot("position", position, HeadPosition)
        if position is not None:
            self._lend(position)
        last = self.blocks[-1]
        norm = last.residual.norms(last.num_sublayers)[-1]
        self.final_norm = norm.make("final_norm", self.dtype_policy) if last.residual.final_norm else None

    def _make_blocks(self, block: Block | list[Block] | tuple[Block, ...]) -> list[Block]:
        """Returns `num_layers` clones of one block, or a clone of each block of a list."""
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
        if isinstance(block, Block):
            return [clone(block, f"block_{i}") for i in range(self.num_layers)]
        if len(given) != self.num_layers:
            raise ValueError(
                f"`block` must hold num_layers={self.num_layers} blocks if it is a list. Received: {len(given)}."
            )
        return [clone(item, f"block_{i}") for i, item in enumerate(given)]

    def _lend(self, position: HeadPosition) -> None:
        """Makes all blocks use a position that the stack owns: it is built and saved once, and its gradients add up."""
        if isinstance(position, keras.layers.Layer):
            self.check_child("position", position)
        for block in self.blocks:
            if not isinstance(block.attention, MultiHeadSelfAttention) or block.position is not None:
                raise ValueError(
                    "`block` must have a MultiHeadSelfAttention without a position if the stack has a `position`. "
                    f"Received: attention={short_repr(block.attention)}, position={short_repr(block.position)}."
                )
            block.attention.borrow_position(position)

    @property
    def block(self) -> Block | list[Block]:
        """The first block if all blocks have the same config, otherwise the list of blocks."""
        configs = [{**comparable(block), "name": None} for block in self.blocks]
        return self.blocks[0] if all(alike(config, configs[0]) for config in configs) else list(self.blocks)

    def check_arguments(self, arguments: Mapping[str, object]) -> dict[str, int]:
        for block in self.blocks[1:]:
            block.check_slots(arguments)
        return self.blocks[0].check_arguments(arguments)

    def _build_around(self, *shapes: Shape) -> None:
        self.model_size = shapes[0][-1]
        if isinstance(self.position, keras.layers.Layer):
            self.build_child(self.position, (None, self.blocks[0].num_heads, None, None))
        for block in self.blocks:
            self.build_child(block, *shapes)
        if self.final_norm is not None:
            self.build_child(self.final_norm, shapes[0])

    def run(
        self,
        x: Tensor,
        *memory: Tensor,
        state: State = None,
        chunk: Chunk | None = None,
        return_attention_scores: bool = False,
        **named: Any,
    ) -> tuple[Tensor, Tensor | None, tuple[State, ...]]:
        named["return_attention_scores"] = return_attention_scores
        padding = masks.first_not_none(named.get("mask"), named.get("inputs_mask"))
        streams = {} if chunk is not None else self._streams(padding, named)
        stream = streams.get("stream", Stream(padding))
        memory_stream = streams.get("memory_stream", EVERY_POSITION)
        tensors = [stream.enter(x), *map(memory_stream.enter, memory)]
        scores, states = [], []
        for block, block_state in zip(self.blocks, state or [None] * self.num_layers, strict=True):
            if block is self.blocks[-1] is not self.blocks[0]:  # the outputs at padding are its outputs for zeros
                tensors[0] = stream.hide(tensors[0])
            tensors[0], *results = run_slot(
                "block", block, self.block_class, tensors, block_state, chunk, {**named, **streams}
            )
            scores.append(results[0])
            states.append(results[1])
        outputs = stream.leave(tensors[0] if self.final_norm is None else self.final_norm(tensors[0]))
        return outputs, ops.stack(scores, axis=1) if return_attention_scores else None, tuple(states)  # [B, N, H, T, S]

    def _streams(self, padding: Tensor | None, named: Mapping[str, Any]) -> dict[str, Stream]:
        """Returns the streams of a call in training, by argument of the blocks' `run`; none where padding stays in.

        Packed rows, which have segments, contain little padding.
        """
        may_pack = named.get("training") and named.get("segment_ids") is None and has_free_shapes()
        if not may_pack or not all(
            block.is_position_wise and is_plain(block, self.block_class) for block in self.blocks
        ):
            return {}
        found = {"stream": padding, "memory_stream": named.get("memory_mask")}
        return {name: RealPositions.of(mask) for name, mask in found.items() if mask is not None}

    def init_state(self, *args: Any, **kwargs: Any) -> tuple[State, ...]:
        """Returns the states of all blocks before the first step; arguments as for the block's `init_state`."""
        return tuple(block.init_state(*args, **kwargs) for block in self.blocks)

    def scores_spec(self, *tensors: Any) -> keras.KerasTensor:
        batch_size, *rest = self.blocks[-1].scores_spec(*tensors).shape
        return keras.KerasTensor((batch_size, self.num_layers, *rest), self.compute_dtype)


@register
class Encoder(SequenceDoors, _Stack):
    """N encoder blocks, and a final norm if their `residual` requires one.

    Args:
        num_layers: Number of blocks N.
        block: An `EncoderBlock`, cloned N times, or a list of N of them. By default that of the paper:
            8 heads, hidden size 2,048.
        position: A position that the attentions of all blocks share, for example one `RelativeBias()` with one
            table (T5, Raffel et al. 2020, arXiv:1910.10683). The blocks then have none. None by default.

    Call arguments:
        As for `EncoderBlock`.

    Returns:
        The outputs `[B, T, D]`, or a pair of outputs and scores of all blocks `[B, N, H, T, T]`.

    Raises:
        ValueError: If `block` is not an encoder block or has another dtype policy, or both block and stack
            have a position.

    Example:
    >>> import numpy as np
    >>> from keras_attn import Encoder, EncoderBlock
    >>> encoder = Encoder(num_layers=2, block=EncoderBlock(num_heads=4, hidden_size=64))
    >>> encoder(np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 5, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.1.
    """

    block_class = EncoderBlock

    def build(self, inputs_shape: Shape) -> None:
        self._build_around(inputs_shape)


@register
class Decoder(MemoryDoors, _Stack):
    """N decoder blocks, and a final norm if their `residual` requires one.

    Args:
        num_layers: Number of blocks N.
        block: A `DecoderBlock`, cloned N times, or a list of N of them. By default that of the paper:
            8 heads, hidden size 2,048.
        position: A position that the self-attentions of all blocks share, as for `Encoder`.

    Call arguments:
        As for `DecoderBlock`.

    Returns:
        The outputs `[B, T, D]`, or a pair of outputs and encoder-decoder scores of all blocks `[B, N, H, T, S]`.

    Raises:
        ValueError: If `block` is not a decoder block or has another dtype policy, or both block and stack
            have a position.

    Example:
    >>> import numpy as np
    >>> from keras_attn import Decoder, DecoderBlock
    >>> decoder = Decoder(num_layers=2, block=DecoderBlock(num_heads=4, hidden_size=64))
    >>> decoder(np.ones((2, 3, 16), "float32"), np.ones((2, 5, 16), "float32")).shape.as_list()
    [2, 3, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.1.
    """

    block_class = DecoderBlock

    def build(self, inputs_shape: Shape, memory_shape: Shape) -> None:
        self._build_around(inputs_shape, memory_shape)
