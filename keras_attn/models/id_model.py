"""The base class of the recipes' models: inputs by name, checks of ids, slots in the config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes
from keras_attn.base.slot import Slot
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.tensors import as_array, bounds_of
from keras_attn.base.types import Config, Tensor
from keras_attn.models.inputs import check_data, named_inputs

if TYPE_CHECKING:
    from typing_extensions import Self


class IdModel(keras.Model):
    """A functional model over ids. It has no `__init__`, so that Keras can reload it.

    Attributes:
        sides: Names of the ids that the model reads.
        special_ids: The `SpecialIds` of all sides.
        slots: Names of the attributes that are slots: they are part of the config. Configs of older versions may
            lack some, which then are those of the class.

    Unknown input names raise a `ValueError`, and in eager mode so do ids outside a vocabulary. In a
    graph, their result is that of the embedding lookup (in TensorFlow an error on a CPU, zeros on a GPU).
    """

    sides: tuple[str, ...] = ("source",)
    special_ids = SpecialIds()
    slots: tuple[str, ...] = ("special_ids",)

    @property
    def optional_inputs(self) -> tuple[str, ...] | None:
        """Names of the inputs that a caller may leave out; None for those of packed rows (`packing_names`)."""
        return None

    def get_config(self) -> Config:
        slots = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.slots}
        return {**super().get_config(), **slots}

    @classmethod
    def from_config(cls, config: Config, custom_objects: Mapping[str, object] | None = None) -> Self:
        config = dict(config)
        slots = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in cls.slots if name in config}
        model = super().from_config(config, custom_objects=custom_objects)
        return model.with_slots(**slots)

    def with_slots(self, **slots: Slot) -> Self:
        """Sets slots by name; returns the model."""
        for name, slot in slots.items():
            setattr(self, name, slot)
        return self

    def embedding(self, side: str) -> keras.layers.Layer:
        """Returns the layer with the embeddings of a side."""
        return self.get_layer(f"{side}_embedding")

    def complete(self, inputs: Tensor) -> dict[str, Tensor]:
        """Returns the inputs of a call by name, with those that a caller may leave out."""
        return named_inputs(inputs, self.sides, self.optional_inputs)

    def __call__(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().__call__(self.complete(inputs), *args, **kwargs)

    def make_train_function(self, force: bool = False) -> object:
        """As in Keras, with the variables of the optimizer: a step that creates them is traced twice on TensorFlow."""
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def evaluate(self, x: Tensor | None = None, *args: Any, **kwargs: Any) -> object:
        check_data(x, self.sides, self.optional_inputs)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Tensor, *args: Any, **kwargs: Any) -> object:
        check_data(x, self.sides, self.optional_inputs)
        return super().predict(x, *args, **kwargs)

    def test_on_batch(self, x: Tensor, *args: Any, **kwargs: Any) -> object:
        check_data(x, self.sides, self.optional_inputs)
        return super().test_on_batch(x, *args, **kwargs)

    def predict_on_batch(self, x: Tensor, *args: Any, **kwargs: Any) -> object:
        check_data(x, self.sides, self.optional_inputs)
        return super().predict_on_batch(x, *args, **kwargs)

    def fit(self, x: Tensor | None = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        check_data(x, self.sides, self.optional_inputs)
        return super().fit(x, *args, **kwargs)

    def train_on_batch(self, x: Tensor, *args: Any, **kwargs: Any) -> object:
        check_data(x, self.sides, self.optional_inputs)
        return super().train_on_batch(x, *args, **kwargs)

    def read_ids(self, name: str, ids: Tensor, axes: str, vocabulary: str) -> Tensor:
        """Returns ids as a tensor, after checking their axes and values."""
        ids = as_array(name, ids)
        check_axes({name: axes}, {name: ids})
        self.check_ids(name, ids, vocabulary)
        return ids if isinstance(ids, keras.KerasTensor) else ops.convert_to_tensor(ids, dtype="int32")

    def check_ids(self, name: str, ids: Tensor, vocabulary: str) -> None:
        """Raises a `ValueError` if `ids` are not integers, or are concrete and outside the vocabulary."""
        seen = isinstance(ids, np.ndarray) or is_concrete(ids)
        # Under tf.distribute, Keras traces a model once, in a graph, for the mean of the replicas' ids.
        known = seen or isinstance(ids, keras.KerasTensor)
        if known and keras.backend.is_float_dtype(keras.backend.standardize_dtype(ids.dtype)):
            raise ValueError(f"`{name}` must hold integer ids. Received: {name}.dtype={ids.dtype}.")
        size = self.embedding(vocabulary).input_dim
        if not seen or 0 in ids.shape:
            return
        lowest, highest = bounds_of(ids)
        if lowest < 0 or highest >= size:
            raise ValueError(
                f"`{name}` must hold ids from 0 to {size - 1}. Received: {name} with ids from {lowest} to {highest}."
            )
