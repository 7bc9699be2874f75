"""Plain objects that fill a layer's slots: masks, residual wirings, norms, positions.

A slot object has no weights. Its constructor arguments are its attributes and its config,
so that a subclass only has to store what it was given.
"""

import inspect
import numbers

import keras

from keras_attn.base.tensors import is_array, short_repr

register = keras.saving.register_keras_serializable("keras_attn")


class Slot:
    """A registered, comparable, serialisable value object."""

    def get_config(self):
        """Returns the constructor arguments, nested slots serialised."""
        return {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in inspect.signature(self.__class__).parameters
        }

    @classmethod
    def from_config(cls, config):
        """Makes the object from `get_config()`'s dictionary.

        Raises:
            ValueError: If `config` has a key that the constructor does not know.
        """
        known = inspect.signature(cls).parameters
        unknown = sorted(set(config) - set(known))
        if unknown:
            raise ValueError(f"The config of `{cls.__name__}` may have the keys {sorted(known)}. Received: {unknown}.")
        return cls(**keras.saving.deserialize_keras_object(config))

    def _arguments(self):
        """Returns the constructor arguments by name, as they were stored."""
        return {name: getattr(self, name) for name in inspect.signature(self.__class__).parameters}

    def __eq__(self, other):
        return self.__class__ == other.__class__ and alike(self._arguments(), other._arguments())

    def __hash__(self):
        simple = (numbers.Number, str, Slot)
        values = (value if isinstance(value, simple) else None for value in self._arguments().values())
        return hash((self.__class__, *values))

    def __repr__(self):
        arguments = (f"{name}={short_repr(value)}" for name, value in self._arguments().items())
        return f"{self.__class__.__name__}({', '.join(arguments)})"


def alike(one, other):
    """Whether two arguments of a constructor are the same; functions and tensors are the same only as themselves.

    Nothing is serialised for it, unless an object knows no other way to be compared.
    """
    if one is other:
        return True
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if is_array(one) or is_array(other):
        return False
    if one.__class__.__eq__ is object.__eq__ and callable(getattr(one, "get_config", None)):
        return one.__class__ == other.__class__ and alike(one.get_config(), other.get_config())
    return bool(one == other)
