"""Scores that also read the attention weights of the steps before: where the decoder has been looking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras import ops

from keras_attn import kernels
from keras_attn.base.checks import check_last_axis, check_positive
from keras_attn.base.slot import register
from keras_attn.base.types import LayerArguments, Shape, Tensor
from keras_attn.recurrent.scores import Score

if TYPE_CHECKING:
    from typing_extensions import Unpack


class HistoryScore(Score):
    """A score whose call also takes the attention weights of the steps before.

    Subclasses make their weights in `build(query_shape, memory_shape)` and define
    `keys(memory [B, S, M]) -> [B, S, U]` and
    `call(query [B, D], keys, previous [B, S], summed [B, S]) -> [B, S]`: `previous` are the weights of the
    step before, `summed` are the sums over all steps before; both are zero at the first step.
    """

    axes = {"query": "BD", "keys": "BSU", "previous": "BS", "summed": "BS"}

    def compute_output_shape(
        self, query_shape: Shape, keys_shape: Shape, previous_shape: Shape = (), summed_shape: Shape = ()
    ) -> Shape:
        return tuple(keys_shape[:2])


class AdditiveHistoryScore(HistoryScore):
    """`e_j = v . tanh(W s + V h_j + f_j + b)`, with features f_j `[B, S, U]` of the weights of earlier steps.

    Subclasses make the weights of the features in `build_features(units)` and define
    `features(previous, summed)`.

    Args:
        units: Size U of the space in which state, memory and features meet; by default the size of the state.
    """

    def __init__(self, units: int | None = None, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        check_positive("units", units, optional=True)
        self.units = units

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        units = self.units or check_last_axis("query", query_shape)
        self.query_projection = self.make_dense("query_projection", units, query_shape)
        self.memory_projection = self.make_dense("memory_projection", units, memory_shape, use_bias=False)
        self.v = self.add_weight(name="v", shape=(units,), initializer="glorot_uniform")
        self.build_features(units)

    def build_features(self, units: int) -> None:
        """Makes the weights of the features."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `build_features(units)`.")

    def features(self, previous: Tensor, summed: Tensor) -> Tensor:
        """Returns f_j, `[B, S, U]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `features(previous, summed)`.")

    def keys(self, memory: Tensor) -> Tensor:
        return self.memory_projection(memory)

    def call(self, query: Tensor, keys: Tensor, previous: Tensor, summed: Tensor) -> Tensor:
        keys = keys + self.features(previous, summed)
        return kernels.additive_scores(self.query_projection(query), keys, ops.convert_to_tensor(self.v))


@register
class LocationSensitiveScore(AdditiveHistoryScore):
    """The hybrid score of Chorowski et al.: content, and where the decoder looked before.

    `e_ij = v . tanh(W s + V h_j + U f_ij + b)`, `f_i = F * a_(i-1)`: a convolution of the weights of the step
    before, or of the sums over all steps before (Tacotron 2), along the memory.

    Args:
        filters: Number of filters of the convolution.
        kernel_size: Number of source positions that a filter covers, odd.
        cumulative: Whether the convolution reads the summed weights, as in Tacotron 2, and not those of the
            step before.
        units: Size U of the space in which state, memory and location meet; by default the size of the state.

    Padding inside the memory takes up positions of the convolution.

    Call arguments:
        query: Decoder state s, `[B, D]`.
        keys: `V h_j` as returned by `keys(memory)`, `[B, S, U]`.
        previous: Weights of the step before, `[B, S]`; zeros at the first step.
        summed: Sums of the weights of all steps before, `[B, S]`.

    Returns:
        Scores `[B, S]`, to which the caller applies mask and alignment.

    Raises:
        ValueError: If a size is not positive, `kernel_size` is even, or the shapes do not fit.

    Example:
    >>> import keras
    >>> from keras_attn import LocationSensitiveScore, RNNAttention
    >>> layer = RNNAttention(keras.layers.LSTMCell(16), LocationSensitiveScore(filters=8, kernel_size=5))

    References:
        Chorowski et al. 2015, Attention-Based Models for Speech Recognition, arXiv:1506.07503;
        Shen et al. 2018 (Tacotron 2), arXiv:1712.05884.
    """

    def __init__(
        self,
        filters: int = 32,
        kernel_size: int = 31,
        cumulative: bool = False,
        units: int | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(units, **kwargs)
        check_positive("filters", filters)
        check_positive("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` must be odd, so that filters are centred. Received: {kernel_size}.")
        self.filters = filters
        self.kernel_size = kernel_size
        self.cumulative = cumulative

    def build_features(self, units: int) -> None:
        self.location_kernel = self.add_weight(name="location_kernel", shape=(self.kernel_size, 1, self.filters))
        self.location_projection = self.add_weight(name="location_projection", shape=(self.filters, units))

    def features(self, previous: Tensor, summed: Tensor) -> Tensor:
        weights = ops.cast(summed if self.cumulative else previous, self.compute_dtype)
        units = self.location_projection.shape[1]
        if weights.shape[1] == 0:  # PyTorch has no convolutions of nothing
            return ops.zeros((*ops.shape(weights), units), self.compute_dtype)
        location = ops.conv(weights[..., None], self.location_kernel, padding="same", data_format="channels_last")
        # A product of three axes would not compile under XLA inside a loop.
        projected = ops.matmul(ops.reshape(location, (-1, self.filters)), self.location_projection)
        return ops.reshape(projected, (*ops.shape(weights), units))


@register
class CoverageScore(AdditiveHistoryScore):
    """The score of See et al.: content, and how much a position was attended to so far.

    `e_ij = v . tanh(W s + V h_j + w c_ij + b)`, with the coverage `c_ij`, the sum of the weights of position j
    over all steps before i.

    Args:
        units: Size U of the space in which state, memory and coverage meet; by default the size of the state.

    Call arguments, Returns and Raises as `LocationSensitiveScore`.

    Example:
    >>> import keras
    >>> from keras_attn import CoverageScore, RNNAttention
    >>> layer = RNNAttention(keras.layers.LSTMCell(16), CoverageScore())

    References:
        See et al. 2017, Get To The Point: Summarization with Pointer-Generator Networks, arXiv:1704.04368.
    """

    def build_features(self, units: int) -> None:
        self.coverage_kernel = self.add_weight(name="coverage_kernel", shape=(units,), initializer="glorot_uniform")

    def features(self, previous: Tensor, summed: Tensor) -> Tensor:
        return ops.cast(summed, self.coverage_kernel.dtype)[..., None] * self.coverage_kernel
