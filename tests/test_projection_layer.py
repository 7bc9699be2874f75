"""Layers of linear maps take the arguments of `keras.layers.Dense`."""

import inspect

import keras
import numpy as np
import pytest

import keras_attn as ka
from keras_attn.base.projection_layer import ARGUMENTS

X = np.ones((2, 3, 8), "float32")
MAKE = {
    "self-attention": lambda **k: ka.MultiHeadSelfAttention(2, **k),
    "encoder-decoder": lambda **k: ka.EncoderDecoderAttention(2, **k),
    "feed-forward": lambda **k: ka.FeedForward(5, **k),
    "gated": lambda **k: ka.GatedFeedForward(5, **k),
    "pooling": lambda **k: ka.AttentionPooling(5, **k),
}
GIVEN = {
    "kernel_initializer": "zeros",
    "bias_initializer": "ones",
    "kernel_regularizer": keras.regularizers.L2(0.5),
    "bias_regularizer": keras.regularizers.L1(0.5),
    "kernel_constraint": "non_neg",
    "bias_constraint": "max_norm",
}


def dense_layers(layer):
    """The linear maps of a layer, but for the vector of the pooling."""
    return [each for each in layer._flatten_layers() if isinstance(each, keras.layers.Dense) and each.name != "v"]


def call(layer):
    return layer(X, X) if isinstance(layer, ka.EncoderDecoderAttention) else layer(X)


@pytest.mark.parametrize("name", MAKE)
def test_every_linear_map_gets_them(name):
    layer = MAKE[name](**GIVEN)
    call(layer)
    maps = dense_layers(layer)
    assert maps
    for each in maps:
        assert isinstance(each.kernel_initializer, keras.initializers.Zeros)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(each.bias), 1)
        assert isinstance(each.kernel_regularizer, keras.regularizers.L2)
        assert isinstance(each.kernel_constraint, keras.constraints.NonNeg)
        assert isinstance(each.bias_constraint, keras.constraints.MaxNorm)
    sizes = sum(each.units for each in maps)
    np.testing.assert_allclose(float(sum(layer.losses)), 0.5 * sizes, rtol=1e-5)  # of the biases, all ones


@pytest.mark.parametrize("name", MAKE)
def test_they_are_in_the_config_and_the_signature(name):
    layer = MAKE[name](**GIVEN, use_bias=False)
    again = layer.__class__.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert not again.use_bias and isinstance(again.kernel_regularizer, keras.regularizers.L2)
    parameters = inspect.signature(layer.__class__).parameters
    assert list(parameters)[-1] == "kwargs" and set(ARGUMENTS) < set(parameters)
    call(again)
    assert all(each.bias is None for each in dense_layers(again))


@pytest.mark.parametrize("name", MAKE)
def test_one_linear_map_may_have_a_bias(name):
    first = MAKE[name]().projections[0]
    layer = MAKE[name](use_bias=[first])
    again = layer.__class__.from_config(layer.get_config())
    assert again.get_config() == layer.get_config() and list(again.use_bias) == [first]
    for each in (layer, again):
        call(each)
        assert {part.name for part in dense_layers(each)} == set(each.projections)
        assert [part.name for part in dense_layers(each) if part.bias is not None] == [first]


@pytest.mark.parametrize("use_bias", [["query"], "in_projection", 1, None])
def test_other_values_of_use_bias_are_named(use_bias):
    with pytest.raises(ValueError, match=r"`use_bias` must be True, False, or a list of names from \['in_projection"):
        ka.MultiHeadSelfAttention(2, use_bias=use_bias)


@pytest.mark.trains
def test_a_constraint_holds_after_a_training_step():
    inputs = keras.Input((3, 8))
    layer = ka.FeedForward(5, kernel_constraint="non_neg")
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse")
    model.fit(X, -10 * X, verbose=0)
    assert all(np.min(each) >= 0 for each in layer.get_weights() if each.ndim == 2)


def test_a_subclass_that_sets_some_of_them_round_trips():
    class NoBias(ka.MultiHeadSelfAttention):
        def __init__(self, num_heads, **kwargs):
            super().__init__(num_heads, use_bias=False, **kwargs)

    layer = NoBias.from_config(NoBias(2).get_config())
    assert layer.num_heads == 2 and not layer.use_bias


def test_unknown_ones_are_refused():
    with pytest.raises(ValueError, match="kernel_regulariser"):
        ka.MultiHeadSelfAttention(2, kernel_regulariser="l2")
