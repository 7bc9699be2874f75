"""The base class of layers that consist of other layers: argument checks, config, dtype policies."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import keras

from keras_attn.base.checks import check_attention_mask, check_axes, check_padding_mask, check_together
from keras_attn.base.policies import DTypePolicyMap, with_policy
from keras_attn.base.slot_layers import build_by_call, call_signature
from keras_attn.base.tensors import is_array, short_repr, to_tensor
from keras_attn.base.types import Argument, CallArguments, Config, LayerArguments, Serialized, Shape, State

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

LayerType = TypeVar("LayerType", bound=keras.layers.Layer)


class BaseLayer(keras.layers.Layer):
    """A layer whose parts are other layers and slot objects.

    A subclass stores each constructor argument under its own name, and lists the axes of its tensor
    arguments in `axes`. This class raises a `ValueError` before `call` runs if shapes do not match, and
    serialises every argument in the config. Child layers have the dtype policy of the layer (after
    `quantize`, each has its own), and masks are passed on.

    Attributes:
        axes: Axes of the call's arguments, for example `{"inputs": "BTD"}`.
        score_masks: Axes to which mask arguments broadcast, for example `{"attention_mask": "BHTS"}`.
        requires: Dictionary from an argument to the other argument that must be given with it.
        row_free: Arguments of `axes` that may have a single row, `[1, T]` or `[T]`, used for all rows.
    """

    axes: dict[str, str] = {}
    score_masks: dict[str, str] = {}
    requires: dict[str, str] = {}
    row_free: frozenset[str] = frozenset({"positions"})

    def __init__(self, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self._quantization: Config = {}

    def __call__(self, *args: object, **kwargs: object) -> State:
        signature = call_signature(self)
        positional = [self._as_tensor(name, value) for name, value in zip(signature.parameters, args)]
        positional += args[len(signature.parameters) :]
        kwargs = {name: self._as_tensor(name, value) for name, value in kwargs.items()}
        self.check_arguments(signature.bind(*positional, **kwargs).arguments)
        return super().__call__(*positional, **kwargs)

    def symbolic_call(self, *args: object, **kwargs: object) -> State:
        """Checks the arguments again, after Keras has filled in the masks of the tensors."""
        self.check_arguments(call_signature(self).bind(*args, **kwargs).arguments)
        return super().symbolic_call(*args, **kwargs)

    def _as_tensor(self, name: str, value: object) -> object:
        """Returns a tensor argument as a tensor, and other arguments unchanged."""
        if name not in self.axes and name not in self.score_masks:
            return value
        tensor = to_tensor(name, value)
        return tensor[None] if name in self.row_free and tensor is not None and len(tensor.shape) == 1 else tensor

    def check_arguments(self, arguments: CallArguments) -> dict[str, int]:
        """Raises a `ValueError` if the shapes of tensors do not match; returns their static sizes by letter."""
        for name, other in self.requires.items():
            check_together(other, name, arguments)
        given = {name: value for name, value in arguments.items() if is_array(value)}
        sizes = check_axes({name: self.axes[name] for name in self.axes if name not in self.row_free}, given)
        for name in given.keys() & self.axes.keys() & self.row_free:  # one row may be given for all
            known = {**sizes, "B": 1} if tuple(given[name].shape)[:1] == (1,) else sizes
            check_axes({name: self.axes[name]}, given, known)
        for name in given.keys() & self.axes.keys():
            if name.endswith("mask"):
                check_padding_mask(name, given[name])
        for name, letters in self.score_masks.items():
            if name in given:
                check_attention_mask(name, given[name], letters, {**sizes, "H": self.num_heads})
        return sizes

    def check_child(self, name: str, child: LayerType) -> LayerType:
        """Returns `child`, a layer given for the slot `name`, after checking its dtype policy."""
        if not isinstance(child, keras.layers.Layer):
            raise ValueError(f"`{name}` must be a Keras layer. Received: {name}={short_repr(child)}.")
        if isinstance(child, keras.Model):
            return child  # Keras neither saves nor uses the policy of a model
        if (child.compute_dtype, child.variable_dtype) != (self.compute_dtype, self.variable_dtype):
            raise ValueError(
                f"`{name}` must have the dtype policy of the layer that holds it, {self.dtype_policy.name!r}: "
                f"pass the same `dtype` to both. Received: {name}.dtype_policy={child.dtype_policy.name!r}."
            )
        return child

    def build_child(
        self, child: keras.layers.Layer, *shapes: Shape, by_call: Callable[..., None] = build_by_call
    ) -> None:
        """Builds `child` unless it is built already, as it is after loading; freezes it if this layer is frozen.

        Args:
            child: The layer.
            *shapes: Shapes of its tensor arguments.
            by_call: Function of the child and the shapes that builds a child without a `build` method.
        """
        if not child.built:
            self._restore_quantization(child, self._name_of(child))
            if isinstance(child, keras.Sequential):  # it would keep the sizes of its first batch
                shapes = tuple((*(None for _ in shape[:-1]), shape[-1]) for shape in shapes)
            if child.__class__.build is keras.layers.Layer.build:
                by_call(child, *shapes)
            else:
                child.build(*shapes)
        if not self.trainable:
            child.trainable = False

    def make_dense(self, name: str, units: int, input_shape: Shape, **kwargs: object) -> keras.layers.Dense:
        """Returns a built `Dense` layer for the attribute `name`, with the dtype policy that it was saved with.

        Args:
            name: Name of the layer and of its attribute.
            units: Size of its outputs.
            input_shape: Shape of its inputs.
            **kwargs: Further arguments of `keras.layers.Dense`.
        """
        child = keras.layers.Dense(units, dtype=self.policy_of(name), name=name, **kwargs)
        self._restore_quantization(child, name)
        self.build_child(child, input_shape)
        return child

    def _name_of(self, child: keras.layers.Layer) -> str | None:
        """Returns the name of the attribute that contains a child, or None."""
        return next((name for name, value in attributes(self).items() if value is child), None)

    def _restore_quantization(self, child: keras.layers.Layer, name: str | None) -> None:
        """Restores the quantisers of a child that was saved quantised."""
        if name is not None and name in self._quantization:
            child.quantization_config = deserialize(self._quantization[name])

    def policy_of(self, name: str) -> keras.DTypePolicy:
        """Returns the dtype policy of the child `name`: that of this layer unless the child was quantised."""
        policy = self.dtype_policy
        return policy[name] if isinstance(policy, DTypePolicyMap) else policy

    def get_config(self) -> Config:
        return self.config_by(serialize)

    def config_by(self, function: Callable[[Argument], Argument]) -> Config:
        """Returns the config, with `function` applied to each constructor argument."""
        arguments = constructor_arguments(self.__class__)
        config = {**super().get_config(), **{name: function(getattr(self, name)) for name in arguments}}
        quantized = {
            name: child
            for name, child in attributes(self).items()
            if isinstance(child, keras.layers.Layer) and name not in arguments and is_quantized(child)
        }
        settings = self._quantization | {  # of children that are not built yet, and of built ones
            name: serialize(child.quantization_config)
            for name, child in quantized.items()
            if getattr(child, "quantization_config", None) is not None
        }
        if settings:
            config["quantization"] = settings
        if quantized:
            policy = self.dtype_policy
            plain = policy.default_policy if isinstance(policy, DTypePolicyMap) else policy
            policies = {name: child.dtype_policy for name, child in quantized.items()}
            config["dtype"] = keras.saving.serialize_keras_object(DTypePolicyMap(plain, policies))
        return config

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Creates the layer. Parts that were saved with another dtype policy get that of the config."""
        config = dict(config)
        quantization = config.pop("quantization", {})
        config = with_policy(config, keras.dtype_policies.get(config.get("dtype")))
        layer = cls(**{name: deserialize(value) for name, value in config.items()})
        layer._quantization = quantization
        return layer


def serialize(value: Argument) -> Serialized:
    """Serialises an argument. Configs of layers have no `build_config`, as the parent builds them."""
    if isinstance(value, (list, tuple)):
        return [serialize(item) for item in value]
    config = unshared(keras.saving.serialize_keras_object(value))
    if isinstance(value, keras.layers.Layer):
        config.pop("build_config", None)
    return config


def unshared(config: Serialized) -> Serialized:
    """Returns a config without the ids by which Keras restores shared objects, because clones share no objects."""
    if isinstance(config, dict):
        return {key: unshared(value) for key, value in config.items() if key != "shared_object_id"}
    return [unshared(item) for item in config] if isinstance(config, list) else config


def deserialize(value: Serialized) -> Argument:
    """The inverse of `serialize`."""
    if isinstance(value, (list, tuple)):
        return [deserialize(item) for item in value]
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def attributes(layer: keras.layers.Layer) -> dict[str, object]:
    """Returns the layer's attributes by name. On PyTorch, they include the modules that contain its parts."""
    return {**vars(layer), **vars(layer).get("_modules", {})}


def is_quantized(layer: keras.layers.Layer) -> bool:
    """Returns whether `quantize` changed the policy of this layer itself, not only those of its parts."""
    return not isinstance(layer, BaseLayer) and layer.dtype_policy.quantization_mode is not None


def constructor_arguments(cls: type[keras.layers.Layer]) -> list[str]:
    """Returns the names of the arguments that the class itself declares, without `**kwargs`."""
    parameters = inspect.signature(cls).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD]
