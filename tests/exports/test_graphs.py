"""What graphs for inference must not hold, so that converters can take them; needs no converter."""

import pytest
import tensorflow as tf

from tests.conformance.cases import CASES

pytestmark = pytest.mark.tensorflow

PORTABLE = [case for case in CASES if "blockwise" not in case.name]  # pinned kernels are the user's own choice
FORBIDDEN = {"Assert", "InplaceUpdate", "Empty", "DeepCopy", "PyFunc", "EagerPyFunc"}


def operations(graph):
    """Yields the operations of a graph and of the functions that it calls."""
    yield from graph.get_operations()
    for name in graph._functions:
        yield from graph._functions[name].graph.get_operations()


@pytest.mark.parametrize("case", PORTABLE, ids=lambda case: case.name)
def test_graphs_of_free_lengths_hold_nothing_that_converters_cannot_take(case):
    model = case.model(case.make())
    function = tf.function(lambda inputs: model(inputs, training=False))
    specs = {name: tf.TensorSpec(each.shape, each.dtype, name) for name, each in model.input.items()}
    found = list(operations(function.get_concrete_function(specs).graph))
    assert len(found) > 3
    assert {each.type for each in found} & FORBIDDEN == set()
    assert not [each.name for each in found if each.type.startswith("Xla")]
    sliced = [each.name for each in found if each.type == "StridedSlice" and each.inputs[0].dtype == tf.bool]
    assert not sliced, "LiteRT has no slices of booleans: use `ops.expand_dims`"
