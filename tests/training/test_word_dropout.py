"""Word dropout: which ids it replaces, how many, and when."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn.training import WordDropout

IDS = np.tile(np.arange(10, dtype="int32"), (1000, 1))


def test_words_become_unknown_in_training_only():
    layer = WordDropout(0.3, seed=1)
    np.testing.assert_array_equal(layer(IDS), IDS)
    np.testing.assert_array_equal(WordDropout(0.0)(IDS, training=True), IDS)
    found = ops.convert_to_numpy(layer(IDS, training=True))
    assert found.dtype == "int32"
    np.testing.assert_array_equal(found[:, :4], IDS[:, :4])  # the special ids
    changed = found != IDS
    np.testing.assert_array_equal(found[changed], 3)
    np.testing.assert_allclose(changed[:, 4:].mean(axis=0), 0.3, atol=0.06)
    assert (ops.convert_to_numpy(layer(IDS, training=True)) != found).any()
    np.testing.assert_array_equal(WordDropout(0.3, seed=1)(IDS, training=True), found)


@pytest.mark.trains
def test_inside_a_model_that_reloads(tmp_path):
    inputs = keras.Input((None,), dtype="int32")
    words = keras.layers.Embedding(10, 3)(WordDropout(0.5)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10)(words))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(IDS[:4], IDS[:4], verbose=0)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    wanted = ops.convert_to_numpy(model(IDS[:4]))
    np.testing.assert_allclose(ops.convert_to_numpy(reloaded(IDS[:4])), wanted, atol=1e-6)


def test_masks_travel_through():
    inputs = keras.layers.Masking()(np.array([[[1.0], [0.0]]]))
    layer = WordDropout(0.5)
    assert layer.compute_mask(inputs, "the mask") == "the mask"


def test_round_trip_and_bad_arguments():
    layer = WordDropout(0.3, seed=1, name="words")
    assert WordDropout.from_config(layer.get_config()).get_config() == layer.get_config()
    assert layer(keras.KerasTensor((None, 5), "int32")).dtype == "int32"
    with pytest.raises(ValueError, match=r"`rate` must be a number in \[0, 1\). Received: rate=1.0"):
        WordDropout(1.0)
