"""What stands around every served function: the shapes of its inputs are checked, its numbers can be written as JSON.

Neither a session nor TF Serving compares what is fed with the shapes that a signature states.
Only shapes are asserted, never values: a server's batch holds requests of equal rank, so that an
assertion fails no neighbour, while a value out of range would.
"""

import tensorflow as tf


def guarded(endpoint):
    """Returns the function of an `Endpoint`, with its inputs checked and its numbers finite."""

    def run(*inputs):
        checked = [with_shape(tensor, spec) for tensor, spec in zip(inputs, endpoint.inputs, strict=True)]
        outputs = endpoint.function(*with_equal_rows(checked, endpoint.inputs))
        return {name: finite(tensor) for name, tensor in outputs.items()}

    return run


def with_shape(tensor, spec):
    """Returns an input after an assertion that it has the specification's rank and sizes.

    The placeholder's own shape is hidden first: it is a promise that nobody keeps, and
    TensorFlow would compute the assertion from it when the graph is built.
    """
    hidden = tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=tf.TensorShape(None))
    shape, rank = tf.shape(hidden), spec.shape.rank
    wanted = [-1 if size is None else size for size in spec.shape]
    sizes = tf.pad(shape, [[0, rank]])[:rank]  # also of an input of another rank
    fits = tf.reduce_all((sizes == wanted) | tf.less(wanted, 0)) & tf.equal(tf.size(shape), rank)
    message = f"`{spec.name}` must have the shape {shown(spec.shape)}. Received: {spec.name}.shape="
    with tf.control_dependencies([tf.raw_ops.Assert(condition=fits, data=[message, shape], summarize=9)]):
        return tf.ensure_shape(tf.identity(hidden), spec.shape)


def with_equal_rows(tensors, specs):
    """Returns inputs after an assertion that all have as many rows as the first."""
    rows = [tf.shape(tensor)[0] for tensor in tensors]
    asserted = []
    for spec, number in zip(specs[1:], rows[1:], strict=True):
        message = f"`{spec.name}` must have as many rows as `{specs[0].name}`. Received rows: "
        equal = tf.equal(number, rows[0])
        asserted.append(tf.raw_ops.Assert(condition=equal, data=[message, number, rows[0]], summarize=9))
    with tf.control_dependencies(asserted):
        return [tf.identity(tensor) for tensor in tensors]


def shown(shape):
    """Returns a specification's shape as messages have it, the batch as B: `[B, None]`."""
    return f"[{', '.join(['B', *map(str, shape[1:])])}]"


def finite(tensor):
    """Returns numbers that JSON knows: 0 for what is no number, the dtype's greatest and least for the infinities."""
    if not tensor.dtype.is_floating:
        return tensor
    bounded = tf.clip_by_value(tensor, tensor.dtype.min, tensor.dtype.max)
    return tf.where(tf.math.is_nan(tensor), tf.zeros_like(tensor), bounded)
