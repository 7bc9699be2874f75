"""The scores of every attention in a model, by layer path."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import models

IDS = np.array([[5, 6, 7, 2], [8, 2, 0, 0]])


def test_maps_of_a_transformer_are_the_scores_of_its_layers():
    model = models.Transformer(11, 13, num_layers=2, size=8, num_heads=2, hidden_size=13)
    maps = ka.attention_maps(model, {"source": IDS, "target": IDS[:, :3]})
    sides = {"encoder": ["attention"], "decoder": ["attention", "memory_attention"]}
    assert list(maps) == [f"{side}/block_{i}/{part}" for side, parts in sides.items() for i in (0, 1) for part in parts]
    _, scores = model.logits_and_scores(IDS, IDS[:, :3])
    for block in (0, 1):
        np.testing.assert_allclose(maps[f"decoder/block_{block}/memory_attention"], scores[:, block], atol=1e-6)
    assert maps["encoder/block_1/attention"].shape == (2, 2, 4, 4)
    np.testing.assert_array_equal(maps["encoder/block_1/attention"][1, :, :, 2:], 0)


def test_maps_of_recurrent_attention_and_of_layers_that_run_twice():
    model = models.RNNSeq2Seq(11, 13, size=8)
    inputs = {"source": IDS, "target": IDS[:, :3]}
    maps = ka.attention_maps(model, inputs)
    np.testing.assert_allclose(maps["decoder"], model.attention_scores(**inputs), atol=1e-6)
    shared = ka.MultiHeadSelfAttention(2, name="shared")
    inputs = keras.Input((None, 8))
    twice = keras.Model(inputs, shared(shared(inputs)))
    x = np.random.default_rng(0).normal(size=(1, 3, 8)).astype("float32")
    maps = ka.attention_maps(twice, x)
    assert list(maps) == ["shared", "shared (2)"]
    np.testing.assert_allclose(maps["shared"], shared(x, return_attention_scores=True)[1], atol=1e-6)
    first, second = (ops.convert_to_numpy(maps[name]) for name in maps)
    assert np.max(np.abs(first - second)) > 1e-4


def test_bad_models_are_named():
    with pytest.raises(ValueError, match="`model` must be a Keras model or layer. Received: model=None"):
        ka.attention_maps(None, IDS)
    with pytest.raises(ValueError, match="`model` must hold an attention layer of keras_attn"):
        ka.attention_maps(keras.layers.Dense(3), np.ones((2, 3), "float32"))
