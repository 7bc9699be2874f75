"""What the recipes' models share: ids in, checked where their values can be seen."""

import keras
import numpy as np
from keras import ops

from keras_attn.checks import check_axes
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
        if isinstance(inputs, dict):
            check_axes({"source": "BS", "target": "BT"}, inputs)
            for name in ("source", "target"):
                self.check_ids(name, inputs[name])
        return super().call(inputs, training=training, mask=mask)

    def check_ids(self, name, ids):
        """Raises a `ValueError` if concrete `ids` are no ids of the vocabulary `name`."""
        size = self.get_layer(f"{name}_embedding").input_dim
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
