"""What the recipes' models share: ids in, checked where their values can be seen."""

import keras
import numpy as np
from keras import ops

from keras_attn.checks import check_axes
from keras_attn.composite import is_array
from keras_attn.kernels.backend import is_concrete
from keras_attn.slots import register

PADDING_ID, START_ID, END_ID, UNKNOWN_ID = range(4)


@register
class Seq2SeqModel(keras.Model):
    """A functional model from `{"source": [B, S], "target": [B, T]}` to logits `[B, T, V]`.

    Made by the recipes; leaves `__init__` to Keras so that it reloads as any functional
    model. Ids outside a vocabulary raise a `ValueError` in eager mode; in a graph the
    embedding lookup decides (an error on a CPU, zeros on a GPU under TensorFlow).
    """

    def call(self, inputs, training=None, mask=None):
        named = inputs if isinstance(inputs, dict) else dict(zip(("source", "target"), inputs))
        check_axes({"source": "BS", "target": "BT"}, named)
        for name in ("source", "target"):
            self.check_ids(name, named[name], name)
        return super().call(named, training=training, mask=mask)

    def read_ids(self, name, ids, axes, vocabulary):
        """Returns ids as a tensor, after checking their axes and values."""
        ids = ids if is_array(ids) else np.asarray(ids)
        check_axes({name: axes}, {name: ids})
        self.check_ids(name, ids, vocabulary)
        return ids if isinstance(ids, keras.KerasTensor) else ops.convert_to_tensor(ids, dtype="int32")

    def check_ids(self, name, ids, vocabulary):
        """Raises a `ValueError` if `ids` are no integers, or concrete ones outside of the vocabulary."""
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(ids.dtype)):
            raise ValueError(f"`{name}` must hold integer ids. Received: {name}.dtype={ids.dtype}.")
        size = self.get_layer(f"{vocabulary}_embedding").input_dim
        if not (isinstance(ids, np.ndarray) or is_concrete(ids)) or 0 in ids.shape:
            return
        lowest, highest = int(ops.min(ids)), int(ops.max(ids))
        if lowest < 0 or highest >= size:
            raise ValueError(
                f"`{name}` must hold ids from 0 to {size - 1}. Received: {name} with ids from {lowest} to {highest}."
            )


def padding_mask(ids):
    """Returns `[B, T]` booleans, True where an id is not padding."""
    return ops.not_equal(ids, PADDING_ID)


def id_inputs(*names):
    """Returns a dictionary of symbolic inputs `[B, None]` of ids."""
    return {name: keras.Input((None,), dtype="int32", name=name) for name in names}
