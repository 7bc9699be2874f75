"""Scores of a recurrent decoder's state and the memory, for `RNNAttention`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras import ops

from keras_attn import kernels
from keras_attn.base.checks import check_last_axis, check_positive
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import register
from keras_attn.base.types import LayerArguments, Shape, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Score(BaseLayer):
    """Base class of scores: `keys(memory)` runs once per sequence, the call once per step.

    Subclasses create their weights in `build(query_shape, memory_shape)` and define
    `keys(memory [B, S, M]) -> [B, S, U]` and `call(query [B, D], keys) -> [B, S]`.
    """

    axes = {"query": "BD", "keys": "BSU"}

    def keys(self, memory: Tensor) -> Tensor:
        """Returns the part of the score that depends only on the memory, `[B, S, U]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `keys(memory)`.")

    def compute_output_shape(self, query_shape: Shape, keys_shape: Shape) -> Shape:
        return tuple(keys_shape[:2])


@register
class AdditiveScore(Score):
    """Bahdanau's score: `e_j = v . tanh(W s + V h_j)`.

    Args:
        units: Size U to which state and memory are projected.

    Call arguments:
        query: Decoder state s, `[B, D]`.
        keys: `V h_j` as returned by `keys(memory)`, `[B, S, U]`.

    Returns:
        Scores `[B, S]`; the caller applies mask and softmax.

    Raises:
        ValueError: If `units` is not positive or shapes do not match.

    Example:
    >>> import keras
    >>> from keras_attn import AdditiveScore, RNNAttention
    >>> layer = RNNAttention(cell=keras.layers.LSTMCell(16), score=AdditiveScore(8))

    References:
        Bahdanau et al. 2015, Neural Machine Translation by Jointly Learning to Align and
        Translate, arXiv:1409.0473.
    """

    def __init__(self, units: int, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        check_positive("units", units)
        self.units = units

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        self.query_projection = self.make_dense("query_projection", self.units, query_shape, use_bias=False)
        self.memory_projection = self.make_dense("memory_projection", self.units, memory_shape, use_bias=False)
        self.v = self.add_weight(name="v", shape=(self.units,), initializer="glorot_uniform")

    def keys(self, memory: Tensor) -> Tensor:
        return self.memory_projection(memory)

    def call(self, query: Tensor, keys: Tensor) -> Tensor:
        return kernels.additive_scores(self.query_projection(query), keys, ops.convert_to_tensor(self.v))


@register
class MultiplicativeScore(Score):
    """Luong's general score: `e_j = s . W h_j`.

    Call arguments, Returns and Raises are those of `AdditiveScore`, where U is the size of the state.

    Example:
    >>> import keras
    >>> from keras_attn import MultiplicativeScore, RNNAttention
    >>> layer = RNNAttention(cell=keras.layers.GRUCell(16), score=MultiplicativeScore())

    References:
        Luong et al. 2015, Effective Approaches to Attention-based Neural Machine Translation,
        arXiv:1508.04025.
    """

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        self.memory_projection = self.make_dense(
            "memory_projection", check_last_axis("query", query_shape), memory_shape, use_bias=False
        )

    def keys(self, memory: Tensor) -> Tensor:
        return self.memory_projection(memory)

    def call(self, query: Tensor, keys: Tensor) -> Tensor:
        return ops.sum(query[:, None, :] * keys, axis=-1)
