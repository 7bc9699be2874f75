"""Layers made once more, and compared, without serialising them."""

import inspect
import warnings

import keras

from keras_attn.base.layer import BaseLayer, constructor_arguments, deserialize
from keras_attn.base.slot import alike
from keras_attn.base.tensors import short_repr


def clone(layer, name=None):
    """Returns a new, unbuilt layer with the same arguments, under another name if one is given.

    Nothing is serialised, so that arguments which cannot be saved, such as lambdas, are handed
    on as they are. A layer that is no `BaseLayer` is made from its own `get_config`, where
    Keras can read that, and else from its attributes that are named as its constructor's arguments.
    """
    named = {} if name is None else {"name": name}
    if plainly_configured(layer):
        config = {**layer.config_by(copied), **named}
        quantization = config.pop("quantization", {})
        new = layer.__class__(**{**config, "dtype": deserialize(config["dtype"])})
        new._quantization = quantization
        return new
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of lambdas in a config, which is never saved
        try:
            return layer.__class__.from_config({**layer.get_config(), **named})
        except (NotImplementedError, OSError, TypeError, ValueError, AttributeError) as error:
            return _clone_by_attributes(layer, named, error)


def _clone_by_attributes(layer, named, error):
    """Clones a layer whose config cannot be made or read; `error` is the reason."""
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
            f"A layer that is cloned must define `get_config`, or keep the arguments of its constructor under their "
            f"names. Received: {short_repr(layer)}, for which {error}"
        ) from error
    own = {"name": layer.name, "dtype": layer.dtype_policy, "trainable": layer.trainable, **named}
    parameters = inspect.signature(layer.__class__).parameters.values()
    own = own if any(each.kind == each.VAR_KEYWORD for each in parameters) else {}
    return layer.__class__(**own | {argument: copied(value) for argument, value in arguments.items()})


def copied(value):
    """Returns an argument for a second layer: layers and initialisers anew, all else, which never changes, as it is."""
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    if isinstance(value, keras.layers.Layer):
        return clone(value)
    return value.clone() if isinstance(value, keras.initializers.Initializer) else value


def comparable(value):
    """Returns an argument in a form that `alike` can compare: the layers in it as their configs."""
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


def check_same(slot, layer, given):
    """Raises a `ValueError` for an argument whose value the slot's layer does not have: it would be ignored."""
    for name, value in given.items():
        own = getattr(layer, name, None)
        if value is not None and not alike(comparable(value), comparable(own)):
            raise ValueError(
                f"`{name}` must be the `{name}` of the `{slot}` it is given with. "
                f"Received: {name}={short_repr(value)}, {slot}.{name}={short_repr(own)}."
            )


def plainly_configured(layer):
    """Whether a layer's config is its constructor arguments: a `BaseLayer` that leaves `get_config` as it is."""
    return isinstance(layer, BaseLayer) and layer.__class__.get_config is BaseLayer.get_config
