"""Plain objects for the slots of a layer: masks, residual connections, norms, positions.

A slot object has no weights. Its constructor arguments are its attributes and its config,
so that a subclass only has to store its arguments.
"""

from __future__ import annotations

import inspect
import numbers
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import keras

from keras_attn.base.tensors import is_array, short_repr
from keras_attn.base.types import Config

if TYPE_CHECKING:
    from typing_extensions import Self

Registered = TypeVar("Registered", bound=type)


def register(cls: Registered) -> Registered:
    """Registers a class with Keras, so that a config that contains its objects can be loaded."""
    return keras.saving.register_keras_serializable("keras_attn")(cls)


@runtime_checkable
class Configurable(Protocol):
    """An object that can return its config."""

    def get_config(self) -> Config: ...


class Slot:
    """A registered, comparable, serialisable value object."""

    def get_config(self) -> Config:
        """Returns the constructor arguments; nested slot objects are serialised."""
        return {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in inspect.signature(self.__class__).parameters
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Creates the object from the dictionary that `get_config` returns.

        Raises:
            ValueError: If `config` has a key that is not an argument of the constructor.
        """
        known = inspect.signature(cls).parameters
        unknown = sorted(set(config) - set(known))
        if unknown:
            raise ValueError(f"The config of `{cls.__name__}` may have the keys {sorted(known)}. Received: {unknown}.")
        return cls(**keras.saving.deserialize_keras_object(config))

    def _arguments(self) -> dict[str, object]:
        """Returns the constructor arguments by name, as stored."""
        return {name: getattr(self, name) for name in inspect.signature(self.__class__).parameters}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Slot):
            return False
        return self.__class__ == other.__class__ and alike(self._arguments(), other._arguments())

    def __hash__(self) -> int:
        simple = (numbers.Number, str, Slot)
        values = (value if isinstance(value, simple) else None for value in self._arguments().values())
        return hash((self.__class__, *values))

    def __repr__(self) -> str:
        arguments = (f"{name}={short_repr(value)}" for name, value in self._arguments().items())
        return f"{self.__class__.__name__}({', '.join(arguments)})"


def alike(one: object, other: object) -> bool:
    """Returns whether two constructor arguments are equal. Functions and tensors must be the same object.

    Objects are compared by their configs only if they define no `__eq__`.
    """
    if one is other:
        return True
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if is_array(one) or is_array(other):
        return False
    if one.__class__.__eq__ is object.__eq__ and isinstance(one, Configurable) and isinstance(other, Configurable):
        return one.__class__ == other.__class__ and alike(one.get_config(), other.get_config())
    return bool(one == other)
