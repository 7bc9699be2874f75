"""Backends that run as they go (PyTorch): the loop is Python's."""

from keras import ops, tree


def scan(step, carry, inputs, like):
    """As the TensorFlow adapter's `scan`."""
    del like
    steps = []
    for index in range(tree.flatten(inputs)[0].shape[0]):
        carry, outputs = step(carry, tree.map_structure(lambda tensor, index=index: tensor[index], inputs))
        steps.append(outputs)
    return carry, tree.map_structure(lambda *outputs: ops.stack(outputs), *steps)


def is_concrete(tensor):
    """Returns whether the tensor's values can be read now."""
    return tensor.device.type != "meta"
