"""Plain objects that fill a layer's slots: masks, residual wirings, norms, positions.

A slot object has no weights. Its constructor arguments are its attributes and its config,
so that a subclass only has to store what it was given.
"""

import inspect

import keras

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

    def __eq__(self, other):
        return self.__class__ == other.__class__ and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((self.__class__, str(self.get_config())))

    def __repr__(self):
        arguments = (f"{name}={getattr(self, name)!r}" for name in inspect.signature(self.__class__).parameters)
        return f"{self.__class__.__name__}({', '.join(arguments)})"
