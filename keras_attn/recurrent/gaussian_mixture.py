"""Mixture attention: Gaussians that move along the memory, without a look at its content."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_last_axis, check_positive
from keras_attn.base.slot import register
from keras_attn.base.types import LayerArguments, Shape, State, Tensor
from keras_attn.recurrent.alignment import Alignment, real_positions

if TYPE_CHECKING:
    from typing_extensions import Unpack

LEAST_WIDTH = 1e-3  # of a component: a density has no value at a width of 0
START_STEP, START_WIDTH = 1.0, 10.0  # of the means and of the standard deviations, as in Battenberg et al.


class MixtureState(NamedTuple):
    """The state of `GaussianMixture`: means `[B, K]`, and the positions of the memory `[B, S]`, which stay."""

    means: Tensor
    positions: Tensor


@register
class GaussianMixture(Alignment):
    """Location-based mixture attention (Graves), in the form V2b of Battenberg et al.

    The query alone gives K weights w, steps d and widths s, by a layer with tanh and a linear one:
    `(w^, d^, s^)_i = V tanh(W q_i + b) + c`, `w = softmax(w^)`, `d = softplus(d^)`, `s = softplus(s^)`. The
    means move on, `m_ik = m_(i-1)k + d_ik` from 0, and position j = 1, ..., S of the memory gets
    `a_ij = sum_k w_ik N(j; m_ik, s_ik)`, N being the density of the normal distribution. The biases c start
    such that steps start near 1 and widths near 10.

    The weights do not depend on the memory, so that there is no score. They are not normalised: their sum may be
    below or above 1. Widths are at least 0.001.

    Args:
        num_components: Number K of Gaussians.
        units: Size of the layer with tanh; by default the size of the state.

    Raises:
        ValueError: If a size is not positive.

    Example:
    >>> import keras
    >>> from keras_attn import GaussianMixture, RNNAttention
    >>> layer = RNNAttention(keras.layers.GRUCell(16), alignment=GaussianMixture(num_components=3))

    References:
        Graves 2013, Generating Sequences With Recurrent Neural Networks, arXiv:1308.0850; Battenberg et al.
        2020, Location-Relative Attention Mechanisms For Robust Long-Form Speech Synthesis, arXiv:1910.10288.
    """

    needs_score = False

    def __init__(self, num_components: int = 5, units: int | None = None, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        check_positive("num_components", num_components)
        check_positive("units", units, optional=True)
        self.num_components = num_components
        self.units = units

    def build(self, query_shape: Shape, memory_shape: Shape) -> None:
        units = self.units or check_last_axis("query", query_shape)
        self.hidden_projection = self.make_dense("hidden_projection", units, query_shape, activation="tanh")
        starts = np.repeat([0.0, np.log(np.expm1(START_STEP)), np.log(np.expm1(START_WIDTH))], self.num_components)
        self.mixture_projection = self.make_dense(
            "mixture_projection",
            3 * self.num_components,
            (None, units),
            bias_initializer=keras.initializers.Constant(starts),
        )

    def init_state(self, memory: Tensor, mask: Tensor | None = None) -> State:
        dtype = at_least_float32(self.compute_dtype)
        means = ops.zeros((ops.shape(memory)[0], self.num_components), dtype)
        return MixtureState(means, ops.cast(real_positions(memory, mask), dtype))

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
        parameters = ops.cast(self.mixture_projection(self.hidden_projection(query)), state.means.dtype)
        amounts, steps, widths = ops.split(parameters, 3, axis=-1)  # [B, K]
        amounts, widths = ops.softmax(amounts, axis=-1), ops.maximum(ops.softplus(widths), LEAST_WIDTH)
        means = state.means + ops.softplus(steps)
        distances = (state.positions[:, None] - means[..., None]) / widths[..., None]  # [B, K, S]
        densities = ops.exp(-0.5 * ops.square(distances)) / (widths[..., None] * math.sqrt(2 * math.pi))
        weights = ops.sum(amounts[..., None] * densities, axis=1)
        weights = weights if mask is None else ops.where(mask, weights, 0)
        return weights, state._replace(means=means)
