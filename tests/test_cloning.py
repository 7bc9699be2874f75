"""Clones: arguments that cannot be serialised are passed on, weights and seeds are new, policies are kept."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_attn as ka
from keras_attn import masks
from keras_attn.base.cloning import clone

B, T, D, H = 2, 3, 8, 2
square = lambda x: x * x  # noqa: E731 - what cannot be loaded


class Scaled(layers.Layer):
    """Unregistered, with an argument that Keras cannot serialise and no `get_config`."""

    def __init__(self, function, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.function = function
        self.factor = factor

    def call(self, x):
        return self.factor * self.function(x)


class Registerless(layers.Layer):
    """Unregistered, with a `get_config` of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def ones(shape, dtype=None):
    return ops.ones(shape, dtype)


BLOCKS = {
    "activation": lambda: {"feed_forward": ka.FeedForward(11, activation=lambda x: x * x)},
    "gated": lambda: {"feed_forward": ka.GatedFeedForward(11, activation=lambda x: x * x)},
    "mask": lambda: {"mask": masks.Where(lambda query, key: key <= query)},
    "joined": lambda: {"mask": masks.Where(lambda query, key: key <= query) & masks.Window(2)},
    "initializer": lambda: {
        "attention": ka.MultiHeadSelfAttention(H, kernel_initializer=lambda *a, **k: ones(*a, **k))
    },
    "sinks": lambda: {
        "attention": ka.MultiHeadSelfAttention(H, score=ka.DotProduct(sinks=lambda *a, **k: ones(*a, **k)))
    },
    "unregistered": lambda: {"feed_forward": Registerless(D)},
    "no-config": lambda: {"feed_forward": Scaled(lambda x: x * x)},
    "keras-layer": lambda: {"feed_forward": layers.Dense(D, activation=lambda x: x * x)},
    "wrapper": lambda: {"feed_forward": layers.TimeDistributed(Registerless(D))},
    "sequential": lambda: {"feed_forward": keras.Sequential([Registerless(D), layers.Activation(square)])},
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("listed", [False, True], ids=["one", "list"])
def test_a_stack_clones_what_cannot_be_saved(name, listed, rng):
    x = rng.normal(size=(B, T, D)).astype("float32")
    slots = BLOCKS[name]()
    block = ka.EncoderBlock(H, 11, **slots)
    stack = ka.Encoder(2, [block, ka.EncoderBlock(H, 11)] if listed else block)
    outputs = ops.convert_to_numpy(stack(x))
    for part in stack.blocks:
        x = part(x)
    np.testing.assert_allclose(outputs, x, atol=1e-5)
    if not listed and name not in ("no-config", "sequential"):  # Keras names each its own input
        assert stack.block is stack.blocks[0]
    inputs = keras.Input((None, D))
    block = ka.DecoderBlock(H, 11, **{"mask": None, **slots})
    assert keras.Model(inputs, ka.Decoder(2, block)(inputs, inputs)).outputs[0].shape == (None, None, D)


@pytest.mark.tensorflow  # saved once is enough
def test_what_cannot_be_loaded_is_kerass_own_error(tmp_path):
    inputs = keras.Input((None, D))
    stack = ka.Encoder(2, ka.EncoderBlock(H, 11, feed_forward=ka.FeedForward(11, activation=square)))
    model = keras.Model(inputs, stack(inputs))
    with pytest.warns(UserWarning, match="includes a `lambda`"):
        model.save(tmp_path / "model.keras")
    with pytest.raises(Exception, match="lambda"):
        keras.models.load_model(tmp_path / "model.keras")


def test_clones_are_new_layers_of_the_same_arguments():
    block = ka.EncoderBlock(
        H, 11, 0.2, ka.Causal(), ka.RelativeBias(8, 5, dtype="mixed_bfloat16"), ka.PreNorm(), dtype="mixed_bfloat16"
    )
    block.trainable = False
    again = clone(block, "again")
    assert again.name == "again"
    assert again.get_config() == {**block.get_config(), "name": "again"}
    assert not again.trainable
    assert again.residual is block.residual
    for part in ("attention", "feed_forward", "position"):
        assert getattr(again, part) is not getattr(block, part)
        assert getattr(again, part).name == getattr(block, part).name
    assert clone(block).name == block.name
    assert clone(layers.Dense(3, name="dense"), "other").name == "other"


def test_seeded_initializers_start_alike_and_others_do_not():
    x = np.ones((B, T, D), "float32")
    for seed in (3, None):
        initializer = keras.initializers.GlorotUniform(seed=seed)
        attention = ka.MultiHeadSelfAttention(H, kernel_initializer=initializer)
        feed_forward = layers.Dense(D, kernel_initializer=keras.initializers.GlorotUniform(seed=seed))
        stack = ka.Encoder(2, ka.EncoderBlock(H, 11, attention=attention, feed_forward=feed_forward))
        stack(x)
        for part in (lambda block: block.attention.in_projection, lambda block: block.feed_forward):
            one, two = (ops.convert_to_numpy(part(block).kernel) for block in stack.blocks)
            assert np.all(one == two) == (seed is not None)


def test_layers_that_cannot_be_cloned_are_named():
    class Hidden(layers.Layer):
        def __init__(self, function):
            super().__init__()
            self._own = function

        def call(self, x):
            return self._own(x)

    with pytest.raises(ValueError, match="A layer that is cloned must define `get_config`, or keep the arguments"):
        ka.Encoder(2, ka.EncoderBlock(H, 11, feed_forward=Hidden(square)))


def test_slots_are_equal_by_their_arguments():
    def function(query, key):
        return key <= query

    other = masks.Where(lambda query, key: key <= query)
    assert masks.Where(function) == masks.Where(function)
    assert hash(masks.Where(function)) == hash(masks.Where(function))
    assert masks.Where(function) != other
    assert other & ka.Window(3) == other & ka.Window(np.int64(3))
    assert hash(other & ka.Window(3)) == hash(other & ka.Window(np.int64(3)))
    assert ka.DotProduct(sinks="ones") == ka.DotProduct(sinks="ones")
    assert ka.DotProduct(sinks="ones") != ka.DotProduct(sinks="zeros")
    assert masks.Padding(np.ones(3, bool)) != masks.Padding(np.ones(3, bool))
