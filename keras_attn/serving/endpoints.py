"""The endpoints of a served model: named functions from named tensors to named tensors, one per signature.

A model with tokenizers takes and returns strings. A model without tokenizers takes and returns ids `[B, S]`,
under the same names. TF Serving may pad the shorter requests of a batch with their first element instead of zeros:
`without_filler` removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import keras
import tensorflow as tf

from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.types import Tensor
from keras_attn.serving.tensor_specs import Arrays
from keras_attn.text.tokenizer import Tokenizer

Tensors: TypeAlias = dict[str, Tensor]
"""Tensors by the names of a signature's inputs or outputs."""


class Endpoint(NamedTuple):
    """One signature.

    Attributes:
        name: The signature's name.
        function: Takes a tensor per input, in order, and returns the outputs by name.
        inputs: The inputs' `tf.TensorSpec`s, in the order of the function's arguments.
    """

    name: str
    function: Callable[..., Tensors]
    inputs: tuple[tf.TensorSpec, ...]


class Endpoints:
    """The endpoints of a model."""

    @property
    def draws(self) -> bool:
        """Whether answers are sampled, so that the same request may have different answers."""
        return False

    @property
    def tracked(self) -> list[object]:
        """The objects whose variables and tables are saved."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `tracked`.")

    def all(self) -> list[Endpoint]:
        """Returns the endpoints, `serving_default` first."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `all()`.")

    def requests_like(self, rows: list[Arrays]) -> list[tuple[str, Arrays]]:
        """Returns requests of the signatures beside `serving_default`, for warm-up: pairs of signature and inputs.

        Args:
            rows: Examples of `serving_default`, arrays by input without a batch axis.
        """
        return []

    def named(self, name: str) -> Endpoint:
        """Returns the endpoint with a name."""
        return next(endpoint for endpoint in self.all() if endpoint.name == name)


class ModelEndpoints(Endpoints):
    """The endpoint of a model without steps: `serving_default` calls it and returns its outputs by name.

    Args:
        model: A functional model; each input's first axis is the batch.
        source_text: The tokenizer that turns strings into the model's only input, or None.
    """

    def __init__(self, model: keras.Model, source_text: Tokenizer | None = None) -> None:
        self.model, self.source_text = model, source_text

    @property
    def tracked(self) -> list[object]:
        """The model, and the tokenizer if there is one."""
        return [part for part in (self.model, self.source_text) if part is not None]

    def all(self) -> list[Endpoint]:
        """Returns the endpoints."""
        if self.source_text is not None:
            return [Endpoint("serving_default", self.read_and_call, (text("source"),))]
        inputs = (
            tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in symbolic_inputs(self.model).items()
        )
        return [Endpoint("serving_default", self.call, tuple(inputs))]

    def read_and_call(self, source: Tensor) -> Tensors:
        """Returns the model's outputs for strings `[B]`; ids are padded or cut to an input of a fixed length."""
        if self.source_text is None:
            raise ValueError("`read_and_call` needs a tokenizer. Received: source_text=None.")
        ids = self.source_text.tokenize(source)
        length = self.model.inputs[0].shape[1]
        if length is not None:
            missing = tf.maximum(length - tf.shape(ids)[1], 0)
            ids = tf.pad(ids[:, :length], [[0, 0], [0, missing]], constant_values=self.source_text.special_ids.filler)
            ids = tf.ensure_shape(ids, (None, length))
        return self.call(ids)

    def call(self, *inputs: Tensor) -> Tensors:
        """Returns the model's outputs by name, in dtypes that JSON can represent.

        Args:
            *inputs: Tensors in the order of the model's inputs.
        """
        wanted = structure(self.model)
        if isinstance(wanted, dict):
            outputs = self.model(dict(zip(wanted, inputs, strict=True)), training=False)
        else:
            outputs = self.model(inputs if isinstance(wanted, (list, tuple)) else inputs[0], training=False)
        return {name: without_half(tensor) for name, tensor in named_outputs(self.model, outputs).items()}


def text(name: str) -> tf.TensorSpec:
    """Returns the specification of strings `[B]`."""
    return tf.TensorSpec((None,), "string", name)


def ids(name: str) -> tf.TensorSpec:
    """Returns the specification of ids `[B, S]`."""
    return tf.TensorSpec((None, None), "int32", name)


def without_filler(tokens: Tensor, special_ids: SpecialIds, ends: bool = True) -> Tensor:
    """Returns ids `[B, S]` with padding in place of the filler that a server may have added.

    A row with an end id is read up to the first one, unless it is a prompt, which may contain end
    ids. Every other row is read up to its last id that is neither padding, nor the start id, nor
    the row's own first id: `[7, 8]`, `[7, 8, 0]` and `[7, 8, 7, 7]` are the same row.

    Args:
        tokens: Ids `[B, S]`.
        special_ids: Those of the model.
        ends: Whether an end id ends a row.
    """
    first, places = tokens[:, :1], tf.range(tf.shape(tokens)[1])
    filler = tf.equal(tokens, first) | tf.equal(tokens, special_ids.start) | tf.equal(tokens, special_ids.padding)
    trailing = tf.math.cumprod(tf.cast(filler, "int32"), axis=1, reverse=True) > 0
    hidden = trailing & (places > 0)
    if ends:
        is_end = tf.cast(tf.equal(tokens, special_ids.end), "int32")
        ended = tf.reduce_any(tf.equal(tokens, special_ids.end), axis=1, keepdims=True)
        hidden = tf.where(ended, tf.cumsum(is_end, axis=1, exclusive=True) > 0, hidden)
    return tf.where(hidden, special_ids.padding, tokens)


def known(tokens: Tensor, size: int | None, special_ids: SpecialIds) -> Tensor:
    """Replaces ids outside a vocabulary by the unknown id, or by padding, so that they do not fail other rows."""
    unknown = special_ids.filler if special_ids.unknown is None else special_ids.unknown
    return tokens if size is None else tf.where((tokens < 0) | (tokens >= size), unknown, tokens)


def without_half(tensor: Tensor) -> Tensor:
    """Returns float16 and bfloat16 as float32: JSON and NumPy do not have bfloat16."""
    return tf.cast(tensor, "float32") if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def structure(model: keras.Model) -> Tensor | Sequence[Tensor] | dict[str, Tensor]:
    """Returns a functional model's symbolic inputs: one, a list or a dictionary of them."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def symbolic_inputs(model: keras.Model) -> Tensors:
    """Returns the symbolic inputs of a functional model by name, in their order.

    Raises:
        ValueError: For nested inputs, or names that are not valid names of arguments.
    """
    wanted = structure(model)
    named = wanted if isinstance(wanted, dict) else {tensor.name: tensor for tensor in model.inputs}
    if not all(isinstance(tensor, keras.KerasTensor) for tensor in named.values()):
        raise ValueError(f"`model` must have a flat structure of inputs. Received: {list(named)}, some of them nested.")
    if len(named) < len(model.inputs) or not all(name.isidentifier() and name != "self" for name in named):
        raise ValueError(
            "`model` must have inputs with unique names that are valid names of arguments: "
            f"`keras.Input(..., name=...)`. Received: {[tensor.name for tensor in model.inputs]}."
        )
    return named


def named_outputs(model: keras.Model, outputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> Tensors:
    """Returns the outputs of a functional model by name; several outputs of one layer are numbered.

    Raises:
        ValueError: For nested outputs.
    """
    if isinstance(outputs, dict):
        named = dict(outputs)
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
