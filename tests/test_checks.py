"""The checks at the door, and the composite layer that calls them."""

import keras
import numpy as np
import pytest

from keras_attn import Alibi, Causal, FeedForward, MultiHeadSelfAttention
from keras_attn.base import checks
from keras_attn.base.layer import BaseLayer


def test_axes_return_the_sizes():
    sizes = checks.check_axes({"x": "BTD", "y": "BS"}, {"x": np.zeros((2, 3, 5)), "y": np.zeros((2, 7))}, {"D": 5})
    assert sizes == {"B": 2, "T": 3, "S": 7, "D": 5}
    free = {"x": keras.KerasTensor((None, 3, 5)), "y": None}
    assert checks.check_axes({"x": "BTD", "y": "BS"}, free) == {"T": 3, "D": 5}


def test_axes_that_do_not_fit_name_argument_expected_and_received():
    with pytest.raises(ValueError) as error:
        checks.check_axes({"x": "BTD", "y": "BT"}, {"x": np.zeros((2, 3, 5)), "y": np.zeros((2, 4))})
    assert str(error.value) == "`y` must have shape [B, T] with T=3 as in `x`. Received: y.shape=(2, 4)."
    with pytest.raises(ValueError, match=r"`x` must have 1 axes, \[B\]. Received: x.shape=\(\)"):
        checks.check_axes({"x": "B"}, {"x": np.zeros(())})
    with pytest.raises(ValueError, match=r"with D=4. Received"):
        checks.check_axes({"x": "BD"}, {"x": np.zeros((2, 3))}, {"D": 4})


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 1), (3, 1, 1, 7), (None, 2, 5, None)])
def test_shapes_that_broadcast(shape):
    checks.check_broadcast("m", keras.KerasTensor(shape), "BHTS", {"B": 3, "H": 2, "T": 5, "S": 7})


@pytest.mark.parametrize("shape", [(5,), (2, 7), (1, 3, 2, 5, 7)])
def test_shapes_that_do_not_broadcast(shape):
    with pytest.raises(ValueError, match=r"`m` must broadcast to \[B, H, T, S\] = \(3, 2, 5, 7\)"):
        checks.check_broadcast("m", keras.KerasTensor(shape), "BHTS", {"B": 3, "H": 2, "T": 5, "S": 7})


def test_counts_are_integers_of_any_kind_but_no_booleans():
    checks.check_positive("count", np.int64(2))
    assert FeedForward.from_config(FeedForward(np.int64(2)).get_config()).hidden_size == 2
    for value in (True, 0, 1.0, "1", None):
        with pytest.raises(ValueError, match="`count` must be an integer of at least 1"):
            checks.check_positive("count", value)


@pytest.mark.parametrize("value", [[3, 40000], np.array([3, 40000]), np.array([3, 40000], "uint32")])
def test_integers_of_any_kind_are_int32(value):
    found = checks.integers("lengths", value)
    assert keras.backend.standardize_dtype(found.dtype) == "int32"
    assert keras.ops.convert_to_numpy(found).tolist() == [3, 40000]


def test_fractions_are_no_integers():
    with pytest.raises(ValueError, match=r"`lengths` must be integers. Received: lengths.dtype=float64"):
        checks.integers("lengths", [1.0, 2.0])
    with pytest.raises(ValueError, match=r"`index` must be an integer. Received: index.dtype=float32"):
        checks.integers("index", keras.ops.ones((), "float32"))
    x, ids = np.ones((2, 3, 4), "float32"), np.ones((2, 3), "float32")
    layer = MultiHeadSelfAttention(2, mask=Causal(), position=Alibi())
    for name in ("positions", "segment_ids"):
        with pytest.raises(ValueError, match=rf"`{name}` must be integers. Received: {name}.dtype=float32"):
            layer(x, **{name: ids})


def test_a_composite_child_must_be_a_layer_of_the_same_policy():
    layer = BaseLayer(dtype="mixed_float16")
    assert layer.check_child("child", keras.layers.Dense(3, dtype="mixed_float16")).units == 3
    with pytest.raises(ValueError, match="`child` must have the dtype policy .* 'mixed_float16'.*'float32'"):
        layer.check_child("child", keras.layers.Dense(3))
    with pytest.raises(ValueError, match="`child` must be a Keras layer. Received: child=3"):
        layer.check_child("child", 3)


def test_unknown_arguments_of_a_call_are_a_type_error():
    with pytest.raises(TypeError, match="colour"):
        FeedForward(5)(np.zeros((2, 3, 4)), colour="blue")


def test_symbolic_sizes_are_free_sizes():
    """JAX has them while it exports a model; a comparison or `int` of one raises."""

    class Symbolic:
        def __int__(self):
            raise TypeError("inconclusive")

    class Traced:
        shape = (Symbolic(), 3, np.int64(5), None)

    assert checks.static_shape(Traced()) == (None, 3, 5, None)
    assert checks.check_axes({"x": "BTDS"}, {"x": Traced()}, {"B": 2}) == {"B": 2, "T": 3, "D": 5}
