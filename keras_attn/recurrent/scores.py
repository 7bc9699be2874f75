"""Scores of a recurrent decoder's state against the memory: what fills `RNNAttention`'s slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn import kernels
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_last_axis, check_positive
from keras_attn.base.layer import BaseLayer
from keras_attn.base.slot import register
from keras_attn.base.slot_layers import check_call
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import LayerArguments, Shape, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Score(BaseLayer):
    """A layer with `keys(memory)`, run once per sequence, and a call per step.

    Subclasses make their weights in `build(query_shape, memory_shape)` and define
    `keys(memory [B, S, M]) -> [B, S, U]` and `call(query [B, D], keys) -> [B, S]`.
    """

    axes = {"query": "BD", "keys": "BSU"}

    def keys(self, memory: Tensor) -> Tensor:
        """Returns the part of the score that depends on the memory alone, `[B, S, U]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `keys(memory)`.")

    def compute_output_shape(self, query_shape: Shape, keys_shape: Shape) -> Shape:
        return tuple(keys_shape[:2])


def check_score(slot: str, score: keras.layers.Layer, *names: str) -> keras.layers.Layer:
    """Returns `score`, given for a slot, if it has `keys` and a call that takes the tensors `names`."""
    if not callable(getattr(score, "keys", None)):
        raise ValueError(
            f"`{slot}` must be a layer with a `keys(memory)`, as `Score`. Received: {slot}={short_repr(score)}."
        )
    check_call(slot, score, *names)
    return score


@register
class AdditiveScore(Score):
    """Bahdanau's score: `e_j = v . tanh(W s + V h_j)`.

    With `normalize=True` it has the weight normalisation and the bias of Raffel et al. 2017:
    `e_j = g v / |v| . tanh(W s + V h_j + b)`, with a scalar g that starts as `1 / sqrt(units)`.

    Args:
        units: Size U of the space in which state and memory meet; by default the size of the state.
        normalize: Whether to normalise v and to learn its scale g and the bias b.

    Call arguments:
        query: Decoder state s, `[B, D]`.
        keys: `V h_j` as returned by `keys(memory)`, `[B, S, U]`.

    Returns:
        Scores `[B, S]`, to which the caller applies mask and softmax.

    Raises:
        ValueError: If `units` is not positive or the shapes do not fit.

    Example:
    >>> import keras
    >>> from keras_attn import AdditiveScore, RNNAttention
    >>> layer = RNNAttention(cell=keras.layers.LSTMCell(16), score=AdditiveScore(8))

    References:
        Bahdanau et al. 2015, Neural Machine Translation by Jointly Learning to Align and
        Translate, arXiv:1409.0473; Raffel et al. 2017, arXiv:1704.00784.
    """

    def __init__(self, units: int | None = None, normalize: bool = False, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        check_positive("units", units, optional=True)
        self.units = units
        self.normalize = normalize

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        units = self.units or check_last_axis("query", query_shape)
        self.query_projection = self.make_dense("query_projection", units, query_shape, use_bias=self.normalize)
        self.memory_projection = self.make_dense("memory_projection", units, memory_shape, use_bias=False)
        # The norm is computed in float32 or wider.
        self.v = self.add_weight(name="v", shape=(units,), initializer="glorot_uniform", autocast=not self.normalize)
        if self.normalize:
            start = keras.initializers.Constant(units**-0.5)
            self.scale = self.add_weight(name="scale", shape=(), initializer=start, autocast=False)

    def keys(self, memory: Tensor) -> Tensor:
        return self.memory_projection(memory)

    def call(self, query: Tensor, keys: Tensor) -> Tensor:
        v = ops.convert_to_tensor(self.v)
        if self.normalize:
            v = ops.cast(v, at_least_float32(v.dtype))
            v = ops.cast(ops.cast(self.scale, v.dtype) * ops.normalize(v, axis=-1), keys.dtype)
        return kernels.additive_scores(self.query_projection(query), keys, v)


@register
class DotScore(Score):
    """Luong's dot score: `e_j = s . h_j`, or `g s . h_j` with a learned scale g that starts as 1.

    State and memory must have the same size.

    Args:
        use_scale: Whether to learn the scale g.

    Call arguments, Returns and Raises as `AdditiveScore`, with U the size of the state.

    Example:
    >>> import keras
    >>> from keras_attn import DotScore, RNNAttention
    >>> layer = RNNAttention(cell=keras.layers.GRUCell(16), score=DotScore())

    References:
        Luong et al. 2015, Effective Approaches to Attention-based Neural Machine Translation,
        arXiv:1508.04025.
    """

    def __init__(self, use_scale: bool = False, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        self.use_scale = use_scale

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        if query_shape[-1] != memory_shape[-1]:
            raise ValueError(
                "`DotScore` needs a query and a memory of the same size; `MultiplicativeScore` projects the memory. "
                f"Received: {query_shape[-1]} and {memory_shape[-1]}."
            )
        self._add_scale()

    def _add_scale(self) -> None:
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def keys(self, memory: Tensor) -> Tensor:
        return memory

    def call(self, query: Tensor, keys: Tensor) -> Tensor:
        return ops.einsum("bu,bsu->bs", query * self.scale if self.use_scale else query, keys)


@register
class MultiplicativeScore(DotScore):
    """Luong's general score: `e_j = s . W h_j`, or `g s . W h_j` with a learned scale g that starts as 1.

    Args:
        use_scale: Whether to learn the scale g.

    Call arguments, Returns and Raises as `AdditiveScore`, with U the size of the state.

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
        self._add_scale()

    def keys(self, memory: Tensor) -> Tensor:
        return self.memory_projection(memory)


def build_score(score: keras.layers.Layer, query_shape: Shape, memory_shape: Shape) -> None:
    """Builds a score that has no `build` of its own by a symbolic call of its keys and of itself."""
    query, memory = (keras.KerasTensor(shape, score.compute_dtype) for shape in (query_shape, memory_shape))
    score(query, score.keys(memory))
