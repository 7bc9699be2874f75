"""The state of a decoding loop: a structure of tensors, one row per text, and what the texts of a row share."""

from keras import tree

from keras_attn.base.tensors import is_array

SHARED = "shared"


def map_rows(function, state):
    """Applies a function to all tensors `[B, ...]` of a state, except those that texts of one row share.

    Args:
        function: From a tensor `[B, ...]` to a tensor.
        state: Tensors in dictionaries, lists, tuples and named tuples. What is under the key `SHARED`
            of a dictionary belongs to a row of the batch and not to its beams; it stays as it is, and so
            do scalars and None.
    """

    def visit(part):
        if isinstance(part, dict) and SHARED in part:
            return {name: value if name == SHARED else map_rows(function, value) for name, value in part.items()}
        return function(part) if is_array(part) and len(part.shape) else None  # None: look inside

    return tree.traverse(visit, state)
