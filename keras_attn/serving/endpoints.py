"""What a served model answers: named functions from named tensors to named tensors, one per signature.

A text model takes and gives strings; a model of ids, which has no tokenizers, takes and gives
ids `[B, S]`, under the same names. Whatever stands behind an end id of a source is padding:
TF Serving fills the shorter rows of a batch with their first element, not with zeros.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_attn.special_ids import END_ID, PADDING_ID, START_ID, UNKNOWN_ID


class Endpoint(NamedTuple):
    """One signature.

    Attributes:
        name: The signature's name.
        function: Takes a tensor per input, by name, and returns a dictionary of tensors.
        inputs: The inputs' `tf.TensorSpec`s, in the order of the function's arguments.
    """

    name: str
    function: Callable
    inputs: tuple


class Endpoints:
    """What a model answers.

    Attributes:
        draws: Whether the same request may get another answer.
    """

    draws = False

    def all(self):
        """Returns the endpoints, `serving_default` first."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `all()`.")

    def named(self, name):
        """Returns one endpoint."""
        return next(endpoint for endpoint in self.all() if endpoint.name == name)


class ModelEndpoints(Endpoints):
    """What a model that is simply called answers: `serving_default`, its outputs by name.

    Args:
        model: A functional model; each input's first axis is the batch.
        source_text: The tokenizer that makes its only input of strings, or None.
    """

    def __init__(self, model, source_text=None):
        self.model, self.source_text = model, source_text

    @property
    def tracked(self):
        """The model, and the tokenizer if there is one."""
        return [part for part in (self.model, self.source_text) if part is not None]

    def all(self):
        """Returns the endpoints."""
        if self.source_text is not None:
            return [Endpoint("serving_default", self.read_and_call, (text("source"),))]
        inputs = (tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in named_inputs(self.model).items())
        return [Endpoint("serving_default", self.call, tuple(inputs))]

    def read_and_call(self, source):
        """Strings `[B]` -> the model's outputs; an input of a fixed length is padded or cut to it."""
        ids = self.source_text.tokenize(source)
        length = self.model.inputs[0].shape[1]
        if length is not None:
            ids = tf.pad(ids[:, :length], [[0, 0], [0, tf.maximum(length - tf.shape(ids)[1], 0)]])
            ids = tf.ensure_shape(ids, (None, length))
        return self.call(ids)

    def call(self, *inputs):
        """Tensors in the order of the model's inputs -> its outputs by name, wide enough for JSON."""
        wanted = structure(self.model)
        if isinstance(wanted, dict):
            inputs = dict(zip(wanted, inputs, strict=True))
        outputs = self.model(inputs if isinstance(wanted, (dict, list, tuple)) else inputs[0], training=False)
        return {name: wide(tensor) for name, tensor in named_outputs(self.model, outputs).items()}


def text(name):
    """Returns the specification of strings `[B]`."""
    return tf.TensorSpec((None,), "string", name)


def ids(name):
    """Returns the specification of ids `[B, S]`."""
    return tf.TensorSpec((None, None), "int32", name)


def without_tail(tokens):
    """Returns ids `[B, S]` with nothing but padding behind an end id."""
    ended = tf.cumsum(tf.cast(tf.equal(tokens, END_ID), "int32"), axis=1, exclusive=True)
    return tf.where(ended > 0, PADDING_ID, tokens)


def without_starts(prompts):
    """Returns prompts `[B, S]` with padding for the start ids at their end, all but a first one."""
    starts = tf.cast(tf.equal(prompts, START_ID), "int32")
    trailing = tf.math.cumprod(starts, axis=1, reverse=True) > 0
    return tf.where(trailing & (tf.range(tf.shape(prompts)[1]) > 0), PADDING_ID, prompts)


def known(tokens, size):
    """Returns ids with the unknown id for those outside of a vocabulary: they must not fail the other rows."""
    return tokens if size is None else tf.where((tokens < 0) | (tokens >= size), UNKNOWN_ID, tokens)


def at_least_one(tokens):
    """Returns ids `[B, S]` with S at least 1."""
    return tf.pad(tokens, [[0, 0], [0, tf.maximum(1 - tf.shape(tokens)[1], 0)]])


def wide(tensor):
    """Returns half precision as float32: neither JSON nor NumPy know bfloat16."""
    return tf.cast(tensor, "float32") if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def finite(scores):
    """Returns scores with the lowest number in place of minus infinity, which JSON does not know."""
    return tf.maximum(scores, scores.dtype.min)


def has(model, method):
    """Tells whether a model has a method."""
    return callable(getattr(model, method, None))


def structure(model):
    """Returns a functional model's symbolic inputs: one, a list or a dictionary of them."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def named_inputs(model):
    """Returns the symbolic inputs of a functional model by name, in their order.

    Raises:
        ValueError: For nested inputs, or names that no argument can have.
    """
    wanted = structure(model)
    named = wanted if isinstance(wanted, dict) else {tensor.name: tensor for tensor in model.inputs}
    if not all(isinstance(tensor, keras.KerasTensor) for tensor in named.values()):
        raise ValueError(f"`model` must have a flat structure of inputs. Received: {list(named)}, some of them nested.")
    if len(named) < len(model.inputs) or not all(name.isidentifier() and name != "self" for name in named):
        raise ValueError(
            "`model` must have inputs whose names could be those of arguments, each its own: "
            f"`keras.Input(..., name=...)`. Received: {[tensor.name for tensor in model.inputs]}."
        )
    return named


def named_outputs(model, outputs):
    """Returns the outputs of a functional model by name; those of one layer are numbered.

    Raises:
        ValueError: For nested outputs.
    """
    if isinstance(outputs, dict):
        named = outputs
    else:
        names = [model.layers[-1].name] if isinstance(model, keras.Sequential) else list(model.output_names)
        times = [names[:i].count(name) for i, name in enumerate(names)]
        names = [f"{name}_{time}" if time else name for name, time in zip(names, times, strict=True)]
        named = dict(zip(names, outputs if isinstance(outputs, (list, tuple)) else [outputs], strict=True))
    if any(isinstance(part, (dict, list, tuple)) for part in named.values()):
        raise ValueError(
            f"`model` must have a flat structure of outputs. Received: {list(named)}, some of them nested."
        )
    return named
