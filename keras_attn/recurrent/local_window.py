"""Local alignments: a window of the memory that moves along with the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from keras import ops

from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_last_axis, check_positive
from keras_attn.base.slot import register
from keras_attn.base.types import LayerArguments, Shape, State, Tensor
from keras_attn.kernels.softmax import masked_softmax
from keras_attn.recurrent.alignment import Alignment, real_positions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class WindowState(NamedTuple):
    """Positions `[B, S]` among the unmasked ones, from 0, and their number `[B, 1]`."""

    positions: Tensor
    length: Tensor


@register
class LocalWindow(Alignment):
    """Local attention of Luong et al. with monotonic windows (local-m): step i sees the positions near i.

    `a_ij = softmax_j(e_ij)` over the real positions j with `|j - i| <= size`. A window behind the end of the
    memory is empty, and its weights are zero. A window may be larger than the memory.

    Args:
        size: Number D of positions that a window has on each side of its centre.

    Raises:
        ValueError: If `size` is not positive.

    Example:
    >>> import keras
    >>> from keras_attn import LocalWindow, LuongRNNAttention
    >>> layer = LuongRNNAttention(units=16, alignment=LocalWindow(size=3))

    References:
        Luong et al. 2015, Effective Approaches to Attention-based Neural Machine Translation,
        arXiv:1508.04025.
    """

    def __init__(self, size: int = 10, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        check_positive("size", size)
        self.size = size

    def init_state(self, memory: Tensor, mask: Tensor | None = None) -> State:
        positions = ops.cast(real_positions(memory, mask), at_least_float32(self.compute_dtype))
        return WindowState(positions - 1, positions[:, -1:])

    def centre(self, query: Tensor, state: WindowState, index: Tensor) -> Tensor:
        """Returns the centre of each row's window, `[B, 1]`."""
        return ops.cast(index, state.positions.dtype)[:, None]

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
        weights, _ = self._windowed(scores, query, state, mask, index)
        return weights, state

    def _windowed(
        self, scores: Tensor, query: Tensor, state: WindowState, mask: Tensor | None, index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the softmax over the window, and the distances from its centre, both `[B, S]`."""
        distances = state.positions - self.centre(query, state, index)
        visible = ops.abs(distances) <= self.size
        return masked_softmax(scores, visible if mask is None else visible & mask), distances


@register
class PredictedWindow(LocalWindow):
    """Local attention of Luong et al. with predicted windows (local-p): the state says where the window is.

    The centre is `p_i = L sigmoid(v . tanh(W s_i))` for a memory of L real positions j = 0, ..., L - 1, and
    `a_ij = softmax_j(e_ij) exp(-(j - p_i)^2 / (2 (D / 2)^2))`, the softmax over the positions with
    `|j - p_i| <= D`. Weights sum to less than 1.

    Args:
        size: Number D of positions that a window has on each side of its centre.
        units: Size of the layer that predicts the centre; by default the size of the state.

    Raises:
        ValueError: If a size is not positive.

    Example:
    >>> import keras
    >>> from keras_attn import LuongRNNAttention, PredictedWindow
    >>> layer = LuongRNNAttention(units=16, alignment=PredictedWindow(size=3))

    References:
        Luong et al. 2015, arXiv:1508.04025.
    """

    def __init__(self, size: int = 10, units: int | None = None, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(size, **kwargs)
        check_positive("units", units, optional=True)
        self.units = units

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        units = self.units or check_last_axis("query", query_shape)
        self.hidden_projection = self.make_dense(
            "hidden_projection", units, query_shape, activation="tanh", use_bias=False
        )
        self.position_projection = self.make_dense("position_projection", 1, (None, units), use_bias=False)

    def centre(self, query: Tensor, state: WindowState, index: Tensor) -> Tensor:
        predicted = ops.cast(self.position_projection(self.hidden_projection(query)), state.length.dtype)
        return state.length * ops.sigmoid(predicted)

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
        weights, distances = self._windowed(scores, query, state, mask, index)
        return weights * ops.exp(-2.0 * ops.square(distances / self.size)), state
