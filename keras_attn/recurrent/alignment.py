"""From scores to attention weights: what fills the slot `alignment` of the recurrent layers."""

from __future__ import annotations

from keras import ops

from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Shape, State, Tensor
from keras_attn.kernels.softmax import masked_softmax


class Alignment(BaseLayer):
    """A layer that turns the scores of one decoder step into attention weights.

    Subclasses define `align`, and where they need them: weights, made in `build(query_shape, memory_shape)`;
    a state that passes from step to step, made in `init_state`; and what of the memory all steps read, by
    `keys`. Weights are float32 or wider, and zero where the mask hides the memory. They need not sum to 1.

    Attributes:
        needs_score: Whether `align` reads scores. If not, the decoder has no `score`.
        noise: Standard deviation of the noise that the decoder adds to the scores in training.
    """

    needs_score = True
    noise = 0.0

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        """Makes the weights; by default there are none."""

    def keys(self, memory: Tensor) -> State:
        """Returns what all steps read of the memory `[B, S, M]`, a structure of tensors; by default nothing."""
        return ()

    def init_state(self, memory: Tensor, mask: Tensor | None = None) -> State:
        """Returns the state before the first step, a structure of tensors `[B, ...]`; by default an empty one."""
        return ()

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
        """Returns the attention weights of one step, and the new state.

        Args:
            scores: `[B, S]`; None for an alignment that needs none.
            query: Decoder state, `[B, D]`.
            state: From `init_state` or the step before.
            mask: Boolean `[B, S]`, True where the memory is real; None where all is.
            index: Number of the step in its row, int32 `[B]`, 0 for the first.
            keys: What `keys(memory)` returned.
            training: Whether the step is part of a call with `training=True`.

        Returns:
            The weights `[B, S]` and the new state.
        """
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `align`.")


def check_alignment(alignment: object) -> None:
    """Raises a `ValueError` unless `alignment` is an `Alignment` or None."""
    if not (alignment is None or isinstance(alignment, Alignment)):
        raise ValueError(f"`alignment` must be an `Alignment` or None. Received: alignment={short_repr(alignment)}.")


def reads_scores(alignment: Alignment | None) -> bool:
    """Whether a decoder with this alignment, None for the softmax, has a score."""
    check_alignment(alignment)
    return alignment is None or alignment.needs_score


@register
class SoftmaxAlignment(Alignment):
    """The default: `a_ij = softmax_j(e_ij)` over the real positions of the memory.

    Example:
    >>> import keras
    >>> from keras_attn import AdditiveScore, RNNAttention, SoftmaxAlignment
    >>> layer = RNNAttention(keras.layers.GRUCell(16), AdditiveScore(8), alignment=SoftmaxAlignment())

    References:
        Bahdanau et al. 2015, arXiv:1409.0473.
    """

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
        return masked_softmax(scores, mask), state


def real_positions(memory: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the position of each entry among the real ones of its row, int32 `[B, S]`, 1 for the first."""
    real = ops.ones(ops.shape(memory)[:2], "int32") if mask is None else ops.cast(mask, "int32")
    return ops.cumsum(real, axis=1, dtype="int32")


def first_position(memory: Tensor, mask: Tensor | None, dtype: str) -> Tensor:
    """Returns weights `[B, S]` that are one at the first real position of each row, zero in a row without any."""
    first = ops.equal(real_positions(memory, mask), 1)
    return ops.cast(first if mask is None else first & mask, dtype)
