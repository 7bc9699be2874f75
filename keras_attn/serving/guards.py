"""Checks around every served function: its inputs have the stated shapes, its outputs can be written as JSON.

Neither a session nor TF Serving compares inputs with the shapes that a signature states. Only shapes are
asserted, never values. All requests of a server's batch have equal ranks, so a shape error fails no other
request; an error about one value would fail the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_attn.base.types import Tensor
from keras_attn.serving.endpoints import Endpoint, Tensors


def guarded(endpoint: Endpoint) -> Callable[..., Tensors]:
    """Returns the function of an `Endpoint` that checks its inputs and makes its outputs finite."""

    def run(*inputs: Tensor) -> Tensors:
        checked = [with_shape(tensor, spec) for tensor, spec in zip(inputs, endpoint.inputs, strict=True)]
        outputs = endpoint.function(*with_equal_rows(checked, endpoint.inputs))
        return {name: finite(tensor) for name, tensor in outputs.items()}

    return run


def with_shape(tensor: Tensor, spec: tf.TensorSpec) -> Tensor:
    """Returns an input after an assertion that it has the rank and the sizes of its specification.

    The placeholder's static shape is hidden first: TensorFlow would fold the assertion into a
    constant when it builds the graph, although the server does not enforce that shape.
    """
    hidden = tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=tf.TensorShape(None))
    shape, rank = tf.shape(hidden), spec.shape.rank
    wanted = [-1 if size is None else size for size in spec.shape]
    sizes = tf.pad(shape, [[0, rank]])[:rank]  # also works for an input of another rank
    fits = tf.reduce_all((sizes == wanted) | tf.less(wanted, 0)) & tf.equal(tf.size(shape), rank)
    message = f"`{spec.name}` must have the shape {shown(spec.shape)}. Received: {spec.name}.shape="
    with tf.control_dependencies([tf.raw_ops.Assert(condition=fits, data=[message, shape], summarize=9)]):
        return tf.ensure_shape(tf.identity(hidden), spec.shape)


def with_equal_rows(tensors: Sequence[Tensor], specs: Sequence[tf.TensorSpec]) -> list[Tensor]:
    """Returns inputs after an assertion that all have as many rows as the first."""
    rows = [tf.shape(tensor)[0] for tensor in tensors]
    asserted = []
    for spec, number in zip(specs[1:], rows[1:], strict=True):
        message = f"`{spec.name}` must have as many rows as `{specs[0].name}`. Received rows: "
        equal = tf.equal(number, rows[0])
        asserted.append(tf.raw_ops.Assert(condition=equal, data=[message, number, rows[0]], summarize=9))
    with tf.control_dependencies(asserted):
        return [tf.identity(tensor) for tensor in tensors]


def shown(shape: tf.TensorShape) -> str:
    """Returns a specification's shape for messages, with B for the batch: `[B, None]`."""
    return f"[{', '.join(['B', *map(str, shape[1:])])}]"


def finite(tensor: Tensor) -> Tensor:
    """Returns numbers that JSON can represent: 0 for NaN, the dtype's greatest and least number for the infinities."""
    if not tensor.dtype.is_floating:
        return tensor
    bounded = tf.clip_by_value(tensor, tensor.dtype.min, tensor.dtype.max)
    return tf.where(tf.math.is_nan(tensor), tf.zeros_like(tensor), bounded)
