"""Layers that take the arguments of `keras.layers.Dense` for their linear maps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import keras

from keras_attn.base.cloning import copied
from keras_attn.base.layer import BaseLayer
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Activation, Identifier, LayerArguments, Shape

if TYPE_CHECKING:
    from typing_extensions import Unpack

Constructor = TypeVar("Constructor", bound=Callable[..., None])


class ProjectionArguments(LayerArguments, total=False):
    """The arguments of `ProjectionLayer` and of `keras.layers.Layer`."""

    use_bias: bool | Sequence[str]
    kernel_initializer: Identifier
    bias_initializer: Identifier
    kernel_regularizer: Identifier
    bias_regularizer: Identifier
    kernel_constraint: Identifier
    bias_constraint: Identifier


class ProjectionLayer(BaseLayer):
    """A layer of linear maps that all have the same initialisers, regularisers and constraints.

    Args:
        use_bias: Whether the linear maps have a bias, or a list of the names of those that have one.
        kernel_initializer, bias_initializer: Initialisers of kernels and biases.
        kernel_regularizer, bias_regularizer: Penalties on kernels and biases; None for none.
        kernel_constraint, bias_constraint: Constraints on kernels and biases after each update; None for none.

    Attributes:
        projections: Names of the linear maps.

    Raises:
        ValueError: If `use_bias` is neither a boolean nor a list of names of linear maps.
    """

    projections: tuple[str, ...] = ()

    def __init__(
        self,
        use_bias: bool | Sequence[str] = True,
        kernel_initializer: Identifier = "glorot_uniform",
        bias_initializer: Identifier = "zeros",
        kernel_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.use_bias = self._check_use_bias(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def make_projection(
        self, name: str, units: int, input_shape: Shape, activation: Activation | None = None
    ) -> keras.layers.Dense:
        """Returns a built `Dense` layer for the attribute `name`, with this layer's arguments."""
        given = {argument: copied(getattr(self, argument)) for argument in ARGUMENTS}
        given["use_bias"] = self.use_bias if isinstance(self.use_bias, bool) else name in self.use_bias
        return self.make_dense(name, units, input_shape, activation=activation, **given)

    def _check_use_bias(self, use_bias: bool | Sequence[str]) -> bool | list[str]:
        if isinstance(use_bias, bool):
            return use_bias
        if isinstance(use_bias, (list, tuple)) and all(name in self.projections for name in use_bias):
            return list(use_bias)
        raise ValueError(
            f"`use_bias` must be True, False, or a list of names from {list(self.projections)}. "
            f"Received: use_bias={short_repr(use_bias)}."
        )


ARGUMENTS = [name for name in inspect.signature(ProjectionLayer).parameters if name != "kwargs"]


def with_projection_arguments(constructor: Constructor) -> Constructor:
    """Adds the arguments of `ProjectionLayer` to the signature of a constructor that passes `**kwargs` to it.

    `help` and `get_config` read the signature.
    """
    own = inspect.signature(constructor)
    *named, rest = own.parameters.values()
    inherited = [inspect.signature(ProjectionLayer).parameters[name] for name in ARGUMENTS]
    keyword_only = [each.replace(kind=each.KEYWORD_ONLY) for each in inherited]
    signature = own.replace(parameters=[*named, *keyword_only, rest])
    constructor.__signature__ = signature  # type: ignore[attr-defined]  # any function may have one
    return constructor
