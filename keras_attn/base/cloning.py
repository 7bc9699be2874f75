"""Cloning and comparing layers without serialising them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import TypeGuard, TypeVar, overload

import keras

from keras_attn.base.layer import BaseLayer, LayerType, constructor_arguments, deserialize
from keras_attn.base.slot import alike
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Argument

Value = TypeVar("Value")


def clone(layer: LayerType, name: str | None = None) -> LayerType:
    """Returns a new, unbuilt layer with the same arguments, under another name if one is given.

    Nothing is serialised: arguments that cannot be saved, for example lambdas, are passed to the clone
    as they are. A layer that is not a `BaseLayer` is created from its `get_config`. If Keras cannot read
    that config, the layer is created from its attributes with the names of its constructor's arguments.
    """
    named: dict[str, str] = {} if name is None else {"name": name}
    if plainly_configured(layer):
        config = {**layer.config_by(copied), **named}
        quantization = config.pop("quantization", {})
        new = layer.__class__(**{**config, "dtype": deserialize(config["dtype"])})
        new._quantization = quantization
        return new
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about lambdas in a config; this one is never saved
        try:
            return layer.__class__.from_config({**layer.get_config(), **named})
        except (NotImplementedError, OSError, TypeError, ValueError, AttributeError) as error:
            return _clone_by_attributes(layer, named, error)


def _clone_by_attributes(layer: LayerType, named: Mapping[str, str], error: Exception) -> LayerType:
    """Clones a layer whose config cannot be created or read; `error` is the reason."""
    if isinstance(layer, keras.Model) and not named:
        try:
            return keras.models.clone_model(layer, clone_function=clone)
        except ValueError:  # neither sequential nor functional
            pass
    arguments = {
        argument: getattr(layer, argument, getattr(layer, f"_{argument}", error))
        for argument in constructor_arguments(layer.__class__)
    }
    if any(value is error for value in arguments.values()):
        raise ValueError(
            f"A layer that is cloned must define `get_config`, or keep the arguments of its constructor as "
            f"attributes of the same names. Received: {short_repr(layer)}, for which {error}"
        ) from error
    own = {"name": layer.name, "dtype": layer.dtype_policy, "trainable": layer.trainable, **named}
    parameters = inspect.signature(layer.__class__).parameters.values()
    own = own if any(each.kind == each.VAR_KEYWORD for each in parameters) else {}
    return layer.__class__(**own | {argument: copied(value) for argument, value in arguments.items()})


@overload
def copied(value: list[Value] | tuple[Value, ...]) -> list[Value]: ...


@overload
def copied(value: Value) -> Value: ...


def copied(value: object) -> object:
    """Returns an argument for a second layer: clones of layers and initialisers, other values unchanged."""
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    if isinstance(value, keras.layers.Layer):
        return clone(value)
    return value.clone() if isinstance(value, keras.initializers.Initializer) else value


def comparable(value: object) -> Argument:
    """Returns an argument with its layers replaced by their configs, so that `alike` can compare it."""
    if isinstance(value, (list, tuple)):
        return [comparable(item) for item in value]
    if plainly_configured(value):
        return {"class": value.__class__, **value.config_by(comparable)}
    if not isinstance(value, keras.layers.Layer):
        return value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # as in `clone`
        try:
            return {"class": value.__class__, **value.get_config()}
        except (NotImplementedError, OSError, TypeError, ValueError):
            return value


def check_same(slot: str, layer: keras.layers.Layer, given: Mapping[str, object]) -> None:
    """Raises a `ValueError` for arguments that differ from those of the slot's layer, as they would be ignored."""
    for name, value in given.items():
        own = getattr(layer, name, None)
        if value is not None and not alike(comparable(value), comparable(own)):
            raise ValueError(
                f"`{name}` must be the `{name}` of the given `{slot}`. "
                f"Received: {name}={short_repr(value)}, {slot}.{name}={short_repr(own)}."
            )


def plainly_configured(layer: object) -> TypeGuard[BaseLayer]:
    """Returns whether a layer's config is its constructor arguments: a `BaseLayer` that keeps its `get_config`."""
    return isinstance(layer, BaseLayer) and layer.__class__.get_config is BaseLayer.get_config
