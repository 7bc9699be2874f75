"""TensorFlow: the loop is a `tf.while_loop` over TensorArrays, which trains with and without XLA."""

import tensorflow as tf
from keras import tree


def scan(step, carry, inputs, like):
    """Runs `carry, outputs = step(carry, inputs[t])` over the leading axis.

    What `step` takes from its closure (the memory) gets its gradients summed over the steps.

    Args:
        step: Function from (carry, inputs of one step) to (carry, outputs of one step).
        carry: Structure of tensors; shapes and dtypes stay the same from step to step.
        inputs: Structure of tensors `[T, ...]`.
        like: Structure of tensors shaped as the outputs of one step.

    Returns:
        The last carry, and the outputs stacked to `[T, ...]`.
    """
    flat_inputs = tree.flatten(inputs)
    length = tf.shape(flat_inputs[0])[0]
    readers = [
        tf.TensorArray(tensor.dtype, length, element_shape=tensor.shape[1:]).unstack(tensor) for tensor in flat_inputs
    ]
    writers = [tf.TensorArray(tensor.dtype, length, element_shape=tensor.shape) for tensor in tree.flatten(like)]

    def body(index, flat_carry, writers):
        now = tree.pack_sequence_as(inputs, [reader.read(index) for reader in readers])
        new_carry, outputs = step(tree.pack_sequence_as(carry, flat_carry), now)
        new_carry = [tf.ensure_shape(new, old.shape) for new, old in zip(tree.flatten(new_carry), flat_carry)]
        writers = [writer.write(index, output) for writer, output in zip(writers, tree.flatten(outputs))]
        return index + 1, new_carry, writers

    _, flat_carry, writers = tf.while_loop(
        lambda index, *_: index < length,
        body,
        (tf.constant(0), tree.flatten(carry), writers),
        maximum_iterations=length,
    )
    outputs = tree.pack_sequence_as(like, [writer.stack() for writer in writers])
    return tree.pack_sequence_as(carry, flat_carry), outputs


def is_concrete(tensor):
    """Returns whether the tensor's values can be read now: eager, not in a graph."""
    return isinstance(tensor, tf.Tensor) and tf.executing_eagerly()
