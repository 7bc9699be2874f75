"""Caches: a slot with one verb; a third one works everywhere without a line changed."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import cache, decoding, models

B, T, D, H = 3, 9, 12, 2


@keras.saving.register_keras_serializable("tests")
class HalfValues(cache.Cache):
    """Exact keys, values in half precision."""

    def encode(self, key, value):
        return {"exact": key, "rounded": ops.cast(value, "float16")}

    def decode(self, kept, dtype):
        return ops.cast(kept["exact"], dtype), ops.cast(kept["rounded"], dtype)


@pytest.fixture
def x(rng):
    return rng.normal(size=(B, T, D)).astype("float32")


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


@pytest.mark.parametrize("kind", ["attention", "block", "stack", "window"])
def test_a_third_cache_works_through_every_layer(kind, x):
    layer = {
        "attention": lambda: ka.MultiHeadSelfAttention(H, mask=ka.Causal()),
        "window": lambda: ka.MultiHeadSelfAttention(H, mask=ka.Causal() & ka.Window(3)),
        "block": lambda: ka.EncoderBlock(H, 17, mask=ka.Causal()),
        "stack": lambda: ka.Encoder(2, ka.EncoderBlock(H, 17, mask=ka.Causal())),
    }[kind]()
    whole = numpy(layer(x))
    outputs, state = layer.prefill(x[:, :4], [4, 2, 3], T, HalfValues())
    np.testing.assert_allclose(numpy(outputs)[0], whole[0, :4], atol=1e-5)
    y, _ = layer.step(x[[0, 1, 2], [4, 2, 3]], state, np.array([4, 2, 3]))
    np.testing.assert_allclose(numpy(y), whole[[0, 1, 2], [4, 2, 3]], atol=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "length"), [(decoding.Greedy(), 70), (decoding.Beam(3), 9)], ids=["long", "beams"]
)
def test_a_third_cache_works_through_recipes_and_the_loop(strategy, length):
    source = np.array([[5, 6, 2], [7, 2, 0]])
    sizes = {"num_layers": 2, "size": 8, "num_heads": 2, "hidden_size": 13}
    for model in (models.Transformer(11, 13, **sizes), models.CausalTransformer(11, **sizes)):
        exact = model.generate(source, strategy, max_length=length)
        found = model.generate(source, strategy, max_length=length, cache=HalfValues())
        np.testing.assert_array_equal(found.tokens[:, :, :20], exact.tokens[:, :, :20])
        np.testing.assert_allclose(numpy(found.scores), numpy(exact.scores), rtol=1e-2)


@pytest.mark.tensorflow  # a SavedModel is TensorFlow's
def test_a_third_cache_works_in_an_export(tmp_path):
    import tensorflow as tf

    model = models.Transformer(11, 13, num_layers=1, size=8, num_heads=2, hidden_size=13)
    archive = keras.export.ExportArchive()
    archive.track(model)

    def best(source):
        return decoding.generate(model, source, max_length=9, cache=HalfValues()).tokens

    archive.add_endpoint("serve", best, [tf.TensorSpec((None, None), "int32")])
    archive.write_out(str(tmp_path), verbose=False)
    source = tf.constant([[5, 6, 2], [7, 2, 0]])
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.serve(source), best(source))


def test_append_by_hand():
    """Two rows, one head, three places that roll: places hold indices modulo three."""
    kind = cache.ExactCache()
    state = kind.empty(2, 1, None, (1, 1), "float32", window=3)
    heads = np.arange(10, dtype="float32").reshape(2, 1, 5, 1)
    index = np.array([[0, 1, 2, 3, 4], [0, 1, -1, -1, -1]], "int32")
    state, key, _, read = kind.append(state, heads, -heads, ops.convert_to_tensor(index))
    assert key.shape[2] == 4 + 5  # what was there, and the chunk beside it
    np.testing.assert_array_equal(read, [[-1] * 4 + [0, 1, 2, 3, 4], [-1] * 4 + [0, 1, -1, -1, -1]])
    np.testing.assert_array_equal(state.index, [[3, 4, 2, -1], [0, 1, -1, -1]])
    np.testing.assert_array_equal(state.kept["key"][:, 0, :2, 0], [[3, 4], [5, 6]])
    new = np.array([[[[20.0]]], [[[21.0]]]], "float32")
    state, key, value, read = kind.append(state, new, -new, ops.convert_to_tensor(np.array([[4], [1]], "int32")))
    np.testing.assert_array_equal(read, [[3, 4, 2, -1], [0, 1, -1, -1]])  # each row went back by one
    np.testing.assert_array_equal(key[:, 0, :2, 0], [[3, 20], [5, 21]])
    np.testing.assert_array_equal(value, -np.asarray(key))


def test_a_cache_that_does_not_roll_grows_by_the_places_left_out():
    kind = cache.ExactCache()
    state = kind.empty(1, 1, 4, (1, 1), "float32")
    ones = np.ones((1, 1, 2, 1), "float32")
    state, *_ = kind.append(state, ones, ones, ops.convert_to_tensor(np.array([[0, 1]], "int32")))
    state = kind.own(state, unused=2)
    assert (state.num_places, state.unused, state.in_place) == (2, 2, True)
    state = kind.grow(kind.grow(state, 1), 5)
    assert (state.num_places, state.unused) == (4, 0)
    np.testing.assert_array_equal(state.kept["key"][0, 0, :2, 0], [1, 1])
    rolling = kind.own(kind.empty(1, 1, None, (1, 1), "float32", window=3), unused=2)
    assert (rolling.num_places, rolling.unused) == (3, 0)


def test_a_cache_is_saved_with_its_rewind():
    for kind in (cache.ExactCache(rewind=3), cache.ExactCache(dtype="bfloat16"), cache.Int8Cache(rewind=2)):
        assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(kind)) == kind
    with pytest.raises(ValueError, match="`rewind` must be an integer of at least 0. Received: rewind=-1"):
        cache.ExactCache(rewind=-1)
    assert cache.ExactCache.from_config({"rewind": 3}) == cache.ExactCache(3)  # saved before `dtype`


@pytest.mark.parametrize("dtype", ["int8", "half", keras.DTypePolicy("bfloat16"), ["float32"]])
def test_other_dtypes_of_a_cache_are_named(dtype):
    with pytest.raises(ValueError, match=r"`dtype` must be one of \['bfloat16', .*\] or None. Received: dtype="):
        cache.ExactCache(dtype=dtype)


@pytest.mark.parametrize("mask", [ka.Causal(), ka.Causal() & ka.Window(3)], ids=["whole", "rolls"])
def test_keys_and_values_are_stored_in_the_dtype(mask, x):
    layer = ka.Encoder(2, ka.EncoderBlock(H, 17, mask=mask))
    whole = numpy(layer(x))
    outputs, state = layer.prefill(x[:, :4], None, T, cache.ExactCache(dtype="float16"))
    for block in state:
        assert {keras.backend.standardize_dtype(kept.dtype) for kept in block.kept.values()} == {"float16"}
    outputs, state = layer.extend(x[:, 4:6], state, 4)
    np.testing.assert_allclose(numpy(outputs), whole[:, 4:6], atol=3e-3)
    y, _ = layer.step(x[:, 6], state, 6)
    np.testing.assert_allclose(numpy(y), whole[:, 6], atol=3e-3)
    assert np.abs(numpy(y) - whole[:, 6]).max() > 1e-6  # rounded
