"""Monotonic alignments: the decoder moves along the memory, and never back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import register
from keras_attn.base.types import LayerArguments, Shape, State, Tensor
from keras_attn.kernels.recurrence import linear_recurrence, shift_left, shift_right
from keras_attn.kernels.softmax import masked_softmax
from keras_attn.recurrent.alignment import Alignment, first_position
from keras_attn.recurrent.scores import AdditiveScore, build_score, check_score

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class Monotonic(Alignment):
    """The monotonic alignment of Raffel et al.: the decoder moves on from where it is and stops at some position.

    The probability to stop at position j is `p_ij = sigmoid(e_ij + r)`, with a learned offset r. A call with
    `training=True` computes the expected weights, `a_ij = p_ij q_ij` and
    `q_ij = (1 - p_i(j-1)) q_i(j-1) + a_(i-1)j`, with Gaussian noise on the scores, which teaches the
    network to make them large. Other calls and steps take the hard decision, `p_ij = 1` where
    `e_ij + r > 0` and 0 elsewhere, so that each weight is 0 or 1. Both start at the first real position.

    Weights may sum to less than 1: what is left is the probability to stop nowhere. A hard decoder that has
    stopped nowhere reads zeros from then on.

    Args:
        noise: Standard deviation of the noise on the scores in training.
        offset: Initial value of r: at first the decoder passes each position with a probability near
            `1 - sigmoid(offset)`. For short memories use a value closer to 0.

    Raises:
        ValueError: If `noise` is negative or `offset` is no finite number.

    Example:
    >>> import keras
    >>> from keras_attn import AdditiveScore, Monotonic, RNNAttention
    >>> score = AdditiveScore(8, normalize=True)
    >>> layer = RNNAttention(keras.layers.GRUCell(16), score, alignment=Monotonic())

    References:
        Raffel et al. 2017, Online and Linear-Time Attention by Enforcing Monotonic Alignments,
        arXiv:1704.00784.
    """

    def __init__(self, noise: float = 1.0, offset: float = -4.0, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        check_number("noise", noise, at_least=0)
        check_number("offset", offset)
        self.noise = noise
        self.offset = offset

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        self.r = self.add_weight(
            name="r", shape=(), initializer=keras.initializers.Constant(self.offset), autocast=False
        )

    def init_state(self, memory: Tensor, mask: Tensor | None = None) -> State:
        return first_position(memory, mask, at_least_float32(self.compute_dtype))

    def align(
        self,
        scores: Tensor | None,
        query: Tensor,
        state: State,
        mask: Tensor | None,
        index: Tensor,
        keys: State = (),
        training: bool = False,
    ) -> tuple[Tensor, State]:
        weights = self._stops(scores, state, mask, training)
        return weights, weights

    def _stops(self, scores: Tensor, previous: Tensor, mask: Tensor | None, training: bool) -> Tensor:
        """Returns the probabilities that the decoder stops at each position, `[B, S]`."""
        energies = ops.cast(scores, previous.dtype) + ops.cast(self.r, previous.dtype)
        stop = ops.sigmoid(energies) if training else ops.cast(energies > 0, previous.dtype)
        if mask is not None:
            stop = ops.where(mask, stop, 0)
        return stop * linear_recurrence(shift_right(1 - stop, 1), previous)


@register
class MonotonicChunkwise(Monotonic):
    """The monotonic chunkwise alignment (MoChA) of Chiu and Raffel: soft attention over a window before the stop.

    The decoder stops as `Monotonic` does, at position j with probability `a_ij`, and then attends softly to
    the w positions that end there, by a second score u:
    `b_ij = sum_(k=j)^(j+w-1) a_ik exp(u_ij) / sum_(l=k-w+1)^k exp(u_il)`.

    Padding inside the memory takes up positions of the window.

    Args:
        chunk_size: Number w of positions.
        chunk_score: The score u; by default `AdditiveScore` of the size of the decoder's state.
        noise, offset: As for `Monotonic`.

    Raises:
        ValueError: If `chunk_size` is not positive, `noise` is negative or `offset` is no finite number.

    Example:
    >>> import keras
    >>> from keras_attn import AdditiveScore, MonotonicChunkwise, RNNAttention
    >>> score = AdditiveScore(8, normalize=True)
    >>> layer = RNNAttention(keras.layers.GRUCell(16), score, alignment=MonotonicChunkwise(chunk_size=3))

    References:
        Chiu and Raffel 2018, Monotonic Chunkwise Attention, arXiv:1712.05382.
    """

    def __init__(
        self,
        chunk_size: int = 4,
        chunk_score: keras.layers.Layer | None = None,
        noise: float = 1.0,
        offset: float = -4.0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(noise, offset, **kwargs)
        check_positive("chunk_size", chunk_size)
        self.chunk_size = chunk_size
        chunk_score = AdditiveScore(dtype=self.dtype_policy) if chunk_score is None else chunk_score
        self.chunk_score = self.check_child("chunk_score", check_score("chunk_score", chunk_score, "query", "keys"))

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        super().build(query_shape, memory_shape)
        self.build_child(self.chunk_score, query_shape, memory_shape, by_call=build_score)

    def keys(self, memory: Tensor) -> State:
        return self.chunk_score.keys(memory)

    def align(
        self,
        scores: Tensor | None,
        query: Tensor,
        state: State,
        mask: Tensor | None,
        index: Tensor,
        keys: State = (),
        training: bool = False,
    ) -> tuple[Tensor, State]:
        stops = self._stops(scores, state, mask, training)
        energies = ops.cast(self.chunk_score(query, keys), stops.dtype)
        real = ops.ones_like(energies, "int32") if mask is None else ops.cast(mask, "int32")
        offsets = range(self.chunk_size)  # of a position before the stop
        windows = ops.stack([shift_right(energies, offset) for offset in offsets], axis=-1)  # [B, S, w]
        visible = ops.cast(ops.stack([shift_right(real, offset) for offset in offsets], axis=-1), "bool")
        parts = stops[..., None] * masked_softmax(windows, visible)
        return sum(shift_left(parts[..., offset], offset) for offset in offsets), stops
