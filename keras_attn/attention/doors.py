"""The entry points of layers that decode: `call`, `extend`, `step` and `prefill`, all of which call `run`.

A subclass defines `run`. The entry points check arguments and replace padding by zeros, so that NaN in
padding does not spread. `run` does not check its inputs: a stack calls `run` of its blocks, and a block
calls `run` of its attention layers.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn import masks
from keras_attn.attention.cache import Cache
from keras_attn.attention.chunk import Chunk
from keras_attn.base.checks import check_axes
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot_layers import joined, with_scores
from keras_attn.base.tensors import as_array, shape_of
from keras_attn.base.types import Results, Shape, State, Tensor


class Doors(BaseLayer):
    """Base class of all layers that decode.

    Attributes:
        model_size: Size D of the inputs; None until the layer is built.
        stream: Name of the call's first argument.
    """

    model_size: int | None = None
    stream: str = "inputs"

    def run(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None, State]:
        """Computes outputs `[B, T, D]`, scores or None, and the new state.

        Args:
            x: `[B, T, D]`.
            memory: `[B, S, M]`, for layers that read a memory; None in `extend`, where the state contains it.
            state, chunk: The state and the `Chunk` of `extend`; None in a call.
            return_attention_scores, training: As for the call.
            **kwargs: The other arguments of the call; none in `extend`.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `run`.")

    def extend(
        self,
        inputs: Tensor,
        state: State,
        index: int | Tensor,
        lengths: Tensor | None = None,
        return_attention_scores: bool = False,
    ) -> tuple[Results, State]:
        """Reads T new positions of each row after those in the state.

        Args:
            inputs: `[B, T, D]`. If the layer reads a memory, also `[B W, T, D]`, where the W beams of
                a row are adjacent.
            state: The state from `init_state` or `prefill`, or from the previous `extend` or `step`.
            index: Index of the first new position, an integer scalar or `[B]`. It may go back: the state's
                positions at and after it are then dropped.
            lengths: Integers `[B]`: how many of the T positions each row has, 0 to T; later positions
                are padding. None means T.
            return_attention_scores: Whether to return the scores too. They are those of the call, where the
                axis S covers the positions that were read (the slots of the cache, or the chunk).

        Returns:
            The outputs `[B, T, D]`, or a pair of outputs and scores; and the new state. With an exact cache
            the outputs equal those of the call at every position.

        Raises:
            ValueError: If the layer is not built, shapes do not match, the chunk is longer than the cache,
                or `index` is outside the cache or further back than a rolling cache holds. The index is
                checked only if it is concrete.
        """
        self.check_built()
        inputs = as_array(self.stream, inputs)
        chunk = Chunk.of(self.stream, inputs, state, index, lengths, self.model_size)
        inputs = chunk.hide(ops.cast(inputs, self.compute_dtype))
        outputs, scores, state = self.run(
            inputs, state=state, chunk=chunk, return_attention_scores=return_attention_scores
        )
        return joined(outputs, scores), state

    def step(
        self, inputs: Tensor, state: State, index: int | Tensor, return_attention_scores: bool = False
    ) -> tuple[Results, State]:
        """Reads one position: `extend` with T = 1.

        Args:
            inputs: `[B, D]`, or `[B W, D]`, where the W beams of a row are adjacent.
            state, index, return_attention_scores: As for `extend`.

        Returns:
            The output `[B, D]`, or a pair of output and scores without the axis T; and the new state.
        """
        inputs = as_array(self.stream, inputs)
        check_axes({self.stream: "BD"}, {self.stream: inputs}, {"D": self.model_size})
        outputs, state = self.extend(inputs[:, None], state, index, return_attention_scores=return_attention_scores)
        return first_step(outputs), state

    def check_built(self) -> None:
        """Raises a `ValueError` unless the layer is built."""
        if not self.built:
            raise ValueError(f"`{self.name}` must be built before it decodes: call it, or its model, once.")

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Shape | None = None) -> Shape:
        return tuple(inputs_shape)

    def compute_output_spec(
        self, *args: Any, return_attention_scores: bool = False, **named: Any
    ) -> keras.KerasTensor | tuple[keras.KerasTensor, keras.KerasTensor]:
        names = [name for name in (self.stream, "memory") if name in self.axes]
        tensors = [*args, *(named[name] for name in names[len(args) :])][: len(names)]
        outputs = keras.KerasTensor(tensors[0].shape, self.compute_dtype)
        return joined(outputs, self.scores_spec(*tensors) if return_attention_scores else None)

    def scores_spec(self, *tensors: Any) -> keras.KerasTensor:
        """Returns the symbolic scores of a call with symbolic tensors."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `scores_spec`.")


class SequenceDoors(Doors):
    """The entry points of layers that read one sequence: self-attention, and the encoder's block and stack."""

    axes = {"inputs": "BTD", "mask": "BT", "inputs_mask": "BT", "segment_ids": "BT", "positions": "BT"}
    score_masks = {"attention_mask": "BHTT"}

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Results:
        mask = masks.real_positions(masks.first_not_none(mask, inputs_mask), segment_ids)
        outputs, scores, _ = self.run(
            masks.hide(inputs, mask),
            mask=mask,
            attention_mask=attention_mask,
            segment_ids=segment_ids,
            positions=positions,
            return_attention_scores=return_attention_scores,
            training=training,
        )
        return joined(outputs, scores)

    def prefill(
        self, inputs: Tensor, lengths: Tensor | None, max_length: int | None, cache: Cache | None = None
    ) -> tuple[Results, State]:
        """Reads the first positions of each row: `extend` from an empty state.

        Args:
            inputs: `[B, T, D]`.
            lengths: Integers `[B]`: how many positions each row has; later positions are padding. None means T.
            max_length, cache: As for `init_state`.

        Returns:
            The outputs `[B, T, D]`, and the state to continue decoding with.
        """
        inputs = as_array("inputs", inputs)
        check_axes({"inputs": "BTD"}, {"inputs": inputs})
        return self.extend(inputs, self.init_state(shape_of(inputs)[0], max_length, cache), 0, lengths)


class MemoryDoors(Doors):
    """The entry points of layers that read a sequence and a memory: the decoder's block and stack."""

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
    requires = {"memory_segment_ids": "segment_ids"}

    def call(
        self,
        inputs: Tensor,
        memory: Tensor,
        inputs_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        memory_attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        memory_segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Results:
        inputs_mask = masks.real_positions(inputs_mask, segment_ids)
        memory_mask = masks.real_positions(memory_mask, memory_segment_ids)
        outputs, scores, _ = self.run(
            masks.hide(inputs, inputs_mask),
            masks.hide(memory, memory_mask),
            inputs_mask=inputs_mask,
            memory_mask=memory_mask,
            attention_mask=attention_mask,
            memory_attention_mask=memory_attention_mask,
            segment_ids=segment_ids,
            memory_segment_ids=memory_segment_ids,
            positions=positions,
            return_attention_scores=return_attention_scores,
            training=training,
        )
        return joined(outputs, scores)


def first_step(outputs: Tensor) -> Results:
    """Returns the outputs `[B, D]` of a chunk of one position, or a pair of them and the scores without the axis T."""
    outputs, scores = with_scores(outputs)
    return joined(outputs[:, 0], None if scores is None else scores[..., 0, :])
