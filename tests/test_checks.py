"""The argument checks, and the base layer that calls them."""

import fractions
import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import Alibi, Causal, FeedForward, MultiHeadSelfAttention
from keras_attn.base import checks, tensors
from keras_attn.base.layer import BaseLayer


def test_axes_return_the_sizes():
    sizes = checks.check_axes({"x": "BTD", "y": "BS"}, {"x": np.zeros((2, 3, 5)), "y": np.zeros((2, 7))}, {"D": 5})
    assert sizes == {"B": 2, "T": 3, "S": 7, "D": 5}
    free = {"x": keras.KerasTensor((None, 3, 5)), "y": None}
    assert checks.check_axes({"x": "BTD", "y": "BS"}, free) == {"T": 3, "D": 5}
    assert checks.check_axes({"x": "B"}, {"x": np.zeros(2)}, {"B": None, "D": 5}) == {"B": 2, "D": 5}


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


FLOATS = [
    (1, {}),
    (0.5, {"above": 0, "at_most": 1}),
    (np.float32(0), {"at_least": 0}),
    (-math.inf, {"at_least": -math.inf}),
]
FLOATS += [(10**400, {"above": 0}), (fractions.Fraction(1, 3), {"below": 1}), (math.inf, {"at_most": math.inf})]
INTEGERS = [(3, {}), (np.int64(0), {"at_least": 0}), (4, {"at_least": 0, "at_most": 4}), (10**400, {"above": 3})]
NO_FLOATS = [True, np.True_, math.nan, math.inf, -math.inf, np.float32("nan"), "1", None, 1j, np.ones(()), [1]]
NO_INTEGERS = [*NO_FLOATS, 1.0, np.float64(2), fractions.Fraction(2)]


def test_numbers_are_of_any_kind_but_no_booleans_nor_nan_nor_infinity():
    for kind, good, bad in ((float, FLOATS, NO_FLOATS), (int, INTEGERS, NO_INTEGERS)):
        for value, bounds in good:
            checks.check_number("size", value, kind, **bounds)
        for value in bad:
            assert not checks.is_number(value, kind)
            noun = "an integer" if kind is int else "a number"
            with pytest.raises(ValueError, match=rf"^`size` must be {noun}\. Received: size="):
                checks.check_number("size", value, kind)
    with pytest.raises(ValueError, match=r"Received: size=<ndarray of dtype float64 and shape \(100, 100\)>\."):
        checks.check_number("size", np.ones((100, 100)))


@pytest.mark.parametrize(
    ("kind", "bounds", "good", "bad", "words"),
    [
        (float, {"above": 0}, 0.1, 0, "a number above 0"),
        (float, {"at_least": 1}, 1, 0.9, "a number of at least 1"),
        (float, {"below": 1}, 0.9, 1, "a number below 1"),
        (float, {"at_most": 1}, 1, 1.1, "a number of at most 1"),
        (float, {"at_least": 0, "below": 1}, 0, 1, "a number in [0, 1)"),
        (float, {"above": 0, "at_most": 1}, 1, 0, "a number in (0, 1]"),
        (int, {"at_least": 2}, 2, 1, "an integer of at least 2"),
        (int, {"at_least": 0, "at_most": 4}, 4, 5, "an integer from 0 to 4"),
        (int, {"above": 0, "below": 4}, 3, 4, "an integer in (0, 4)"),
    ],
)
def test_bounds_are_checked_and_described(kind, bounds, good, bad, words):
    checks.check_number("rate", good, kind, **bounds)
    checks.check_number("rate", None, kind, optional=True, **bounds)
    for optional in (False, True):
        with pytest.raises(ValueError) as error:
            checks.check_number("rate", bad, kind, optional, **bounds)
        assert str(error.value) == f"`rate` must be {words}{' or None' * optional}. Received: rate={bad}."
    with pytest.raises(ValueError, match="^`rate` must fit. Received: rate=None.$"):
        checks.check_number("rate", None, kind, must="fit", **bounds)


REFUSE_BOOLEANS = {
    "softcap": lambda: ka.DotProduct(softcap=True),
    "temperature": lambda: ka.decoding.Sample(temperature=True),
    "seed": lambda: ka.decoding.Sample(seed=False),
    "top_p": lambda: ka.decoding.Sample(top_p=True),
    "min_p": lambda: ka.decoding.Sample(min_p=False),
    "length_penalty": lambda: ka.decoding.Beam(length_penalty=True),
    "coverage_penalty": lambda: ka.decoding.Beam(coverage_penalty=False),
    "patience": lambda: ka.decoding.Beam(patience=True),
    "penalty": lambda: ka.decoding.RepetitionPenalty(True),
    "ids": lambda: ka.decoding.BannedTokens([True]),
    "dropout": lambda: ka.FeedForward(5, dropout=False),
    "fraction": lambda: ka.Rotary(fraction=True),
    "factor": lambda: ka.LinearScaling(True),
    "fast": lambda: ka.YarnScaling(2, 64, fast=True, slow=0.5),
    "epsilon": lambda: ka.RMSNorm(True),
    "rewind": lambda: ka.cache.ExactCache(rewind=True),
}
REFUSE_INFINITY = {
    "softcap": lambda value: ka.DotProduct(softcap=value),
    "temperature": lambda value: ka.decoding.Sample(temperature=value),
    "patience": lambda value: ka.decoding.Beam(patience=value),
    "penalty": lambda value: ka.decoding.RepetitionPenalty(value),
    "base": lambda value: ka.Rotary(base=value),
    "factor": lambda value: ka.LinearScaling(value),
    "epsilon": lambda value: ka.LayerNorm(value),
}


@pytest.mark.parametrize("name", REFUSE_BOOLEANS)
def test_booleans_are_no_numbers_anywhere(name):
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: {name}=\[?(True|False)"):
        REFUSE_BOOLEANS[name]()


@pytest.mark.parametrize("name", REFUSE_INFINITY)
def test_what_is_not_finite_is_refused_everywhere(name):
    for value in (math.inf, math.nan):
        with pytest.raises(ValueError, match=rf"`{name}` must .*Received: {name}={value}"):
            REFUSE_INFINITY[name](value)


@pytest.mark.parametrize("value", [[3, 40000], np.array([3, 40000]), np.array([3, 40000], "uint32")])
def test_integers_of_any_kind_are_int32(value):
    found = tensors.to_tensor("lengths", value, "int32")
    assert keras.backend.standardize_dtype(found.dtype) == "int32"
    assert keras.ops.convert_to_numpy(found).tolist() == [3, 40000]


def test_fractions_are_no_integers():
    with pytest.raises(ValueError, match=r"`lengths` must be integers. Received: lengths.dtype=float64"):
        tensors.to_tensor("lengths", [1.0, 2.0], "int32")
    with pytest.raises(ValueError, match=r"`index` must be an integer. Received: index.dtype=float32"):
        tensors.to_tensor("index", keras.ops.ones((), "float32"), "int32")
    x, ids = np.ones((2, 3, 4), "float32"), np.ones((2, 3), "float32")
    layer = MultiHeadSelfAttention(2, mask=Causal(), position=Alibi())
    for name in ("positions", "segment_ids"):
        with pytest.raises(ValueError, match=rf"`{name}` must be integers. Received: {name}.dtype=float32"):
            layer(x, **{name: ids})


def test_arguments_as_tensors():
    assert tensors.to_tensor("x", None) is None and tensors.as_array("x", None) is None
    symbolic, tensor = keras.KerasTensor((2, 3)), ops.ones((2, 3), "float16")
    variable = keras.Variable(np.ones(3, "int32"), trainable=False)
    for value in (symbolic, tensor, variable):
        assert tensors.to_tensor("x", value) is value and tensors.as_array("x", value) is value
    whole = keras.KerasTensor((2, 3), "int64")
    assert keras.backend.standardize_dtype(tensors.to_tensor("x", whole, "int32").dtype) == "int32"
    assert ops.convert_to_numpy(tensors.to_tensor("x", variable, "int32")).tolist() == [1, 1, 1]
    for value, dtype in (
        ([[True, False]], "bool"),
        (np.ones((1, 2), "uint8"), "uint8"),
        (np.ones(2, "float32"), "float32"),
    ):
        found = tensors.to_tensor("x", value)
        assert ops.is_tensor(found) and keras.backend.standardize_dtype(found.dtype) == dtype
        assert isinstance(tensors.as_array("x", value), np.ndarray)
    assert keras.backend.standardize_dtype(tensors.to_tensor("x", [1, 2], "float32").dtype) == "float32"
    assert tuple(tensors.to_tensor("x", [], "int32").shape) == (0,)
    rows = [ops.ones((3,), "float32"), ops.zeros((3,), "float32")]
    assert ops.convert_to_numpy(tensors.to_tensor("x", rows)).tolist() == [[1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2], [3]],
        [np.ones(2), np.ones(3)],
        np.array([[1, 2], [3]], dtype=object),
        [keras.KerasTensor((2,)), keras.KerasTensor((3,))],
        keras.KerasTensor((2, None), ragged=True),
    ],
    ids=["lists", "arrays", "objects", "tensors", "ragged"],
)
def test_rows_of_different_lengths_are_refused_with_the_remedy(rows):
    message = r"`x` must have rows of one length: .*pad_sequences\(x, padding='post'\).*`.to_tensor\(\)`.*padding mask"
    for function in (tensors.as_array, tensors.to_tensor):
        with pytest.raises(ValueError, match=rf"{message}.* Received: x of type {rows.__class__.__name__}"):
            function("x", rows)


@pytest.mark.parametrize(
    "value", ["all", ["a"], np.array(["a"]), {}, object()], ids=["str", "list", "array", "dict", "any"]
)
def test_what_is_no_tensor_is_named(value):
    for function in (tensors.as_array, tensors.to_tensor):
        with pytest.raises(ValueError, match="`x` must be a tensor, an array or a list of numbers. Received: "):
            function("x", value)


def test_a_child_must_be_a_layer_of_the_same_policy():
    layer = BaseLayer(dtype="mixed_float16")
    assert layer.check_child("child", keras.layers.Dense(3, dtype="mixed_float16")).units == 3
    with pytest.raises(ValueError, match="`child` must have the dtype policy .* 'mixed_float16'.*'float32'"):
        layer.check_child("child", keras.layers.Dense(3))
    with pytest.raises(ValueError, match="`child` must be a Keras layer. Received: child=3"):
        layer.check_child("child", 3)


def test_unknown_arguments_of_a_call_are_a_type_error():
    with pytest.raises(TypeError, match="colour"):
        FeedForward(5)(np.zeros((2, 3, 4)), colour="blue")


def test_symbolic_sizes_are_unknown_sizes():
    """JAX has them while it exports a model; a comparison or `int` of one raises."""

    class Symbolic:
        def __int__(self):
            raise TypeError("inconclusive")

    class Traced:
        shape = (Symbolic(), 3, np.int64(5), None)

    assert tensors.static_shape(Traced()) == (None, 3, 5, None)
    assert checks.check_axes({"x": "BTDS"}, {"x": Traced()}, {"B": 2}) == {"B": 2, "T": 3, "D": 5}
