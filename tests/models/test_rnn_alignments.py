"""Recurrent recipes with every kind of state that a score or an alignment keeps: search, saving, export."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import decoding, models

V = 9
SLOTS = {
    "location-monotonic": lambda: {"score": ka.LocationSensitiveScore(3, 3), "alignment": ka.Monotonic(offset=0.5)},
    "coverage-chunkwise": lambda: {"score": ka.CoverageScore(), "alignment": ka.MonotonicChunkwise(2, offset=0.5)},
    "forward": lambda: {"alignment": ka.ForwardAlignment()},
    "mixture": lambda: {"alignment": ka.GaussianMixture(2)},
    "window": lambda: {"score": ka.MultiplicativeScore(use_scale=True), "alignment": ka.LocalWindow(2)},
    "predicted": lambda: {"score": ka.AdditiveScore(normalize=True), "alignment": ka.PredictedWindow(2)},
}
SOURCE = np.array([[5, 6, 7, 8, 2], [4, 2, 0, 0, 0], [8, 7, 2, 0, 0]])


each_slot_the_first_quickly = pytest.mark.parametrize(
    "name", [name if index == 0 else pytest.param(name, marks=pytest.mark.slow) for index, name in enumerate(SLOTS)]
)


def recipe(name):
    model = models.RNNSeq2Seq(V, V, size=6, **SLOTS[name]())
    rng = np.random.default_rng(3)
    model.set_weights([weight + 0.5 * rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("name", SLOTS)
def test_beams_carry_the_state_of_their_own_text(name):
    """The scores that a search returns are those of the whole call on the texts that it returns."""
    model = recipe(name)
    found = model.generate(SOURCE, decoding.Beam(3, num_return_sequences=3), max_length=6)
    tokens, lengths, scores = (ops.convert_to_numpy(each) for each in found)
    assert len(np.unique(tokens[0], axis=0)) == 3
    for text in range(3):
        target = np.concatenate([np.ones((3, 1), int), tokens[:, text, :-1]], axis=1)
        logits = model({"source": SOURCE, "target": target})
        log_probs = ops.convert_to_numpy(ops.log_softmax(logits, axis=-1))
        chosen = np.take_along_axis(log_probs, tokens[:, text, :, None], axis=-1)[..., 0]
        real = np.arange(tokens.shape[-1]) < lengths[:, text, None]
        np.testing.assert_allclose(np.where(real, chosen, 0).sum(-1), scores[:, text], rtol=1e-4, atol=1e-4)


@each_slot_the_first_quickly
def test_xla_generates_the_same(name):
    model = recipe(name)
    plain, compiled = (model.generate(SOURCE, max_length=6, jit_compile=jit_compile) for jit_compile in (False, True))
    np.testing.assert_array_equal(plain.tokens, compiled.tokens)


@pytest.mark.parametrize("name", SLOTS)
def test_a_recipe_comes_back_with_its_slots(name, tmp_path):
    model = recipe(name)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    target = np.array([[1, 5, 6]] * 3)
    np.testing.assert_allclose(
        again({"source": SOURCE, "target": target}), model({"source": SOURCE, "target": target}), atol=1e-6
    )
    assert type(again.get_layer("decoder").alignment) is type(model.get_layer("decoder").alignment)


@pytest.mark.tensorflow
@each_slot_the_first_quickly
def test_an_export_passes_the_checks_of_tf_serving(name, tmp_path):
    from keras_attn import serving

    model = recipe(name)
    path = serving.export(model, tmp_path / "reader", max_length=6, warmup=SOURCE)
    report = serving.check(path)
    assert report.ok, str(report)


def test_attention_scores_come_out():
    model = recipe("mixture")
    generated, scores = model.generate(SOURCE, max_length=4, return_attention_scores=True)
    assert scores.shape[-1] == SOURCE.shape[1]
    real = np.broadcast_to((SOURCE != 0)[:, None, None], scores.shape)
    np.testing.assert_array_equal(ops.convert_to_numpy(scores) > 0, real)
    assert generated.tokens.shape[0] == 3
