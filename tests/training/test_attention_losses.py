"""Losses on attention weights, by hand and in training."""

import keras
import numpy as np
import pytest

import keras_attn as ka
from keras_attn.training import CoverageLoss, GuidedAttentionLoss, MaskedCrossentropy

WEIGHTS = np.array(
    [[[0.5, 0.5, 0.0], [0.75, 0.25, 0.0], [0.0, 0.0, 1.0]], [[1.0, 0, 0], [0.25, 0, 0], [9, 9, 9]]], "float32"
)
REAL = np.array([[[1, 1, 1]] * 3, [[1, 0, 0], [1, 0, 0], [0, 0, 0]]], bool)


def test_coverage_by_hand():
    # Row 0: step 1 covers nothing, step 2 min(.75, .5) + min(.25, .5), step 3 min(1, 0); row 1: 0, then min(.25, 1).
    np.testing.assert_allclose(CoverageLoss(reduction="none")(REAL, WEIGHTS), [0.75 / 3, 0.25 / 2], rtol=1e-6)
    np.testing.assert_allclose(CoverageLoss(weight=2.0)(REAL, WEIGHTS), 0.25 + 0.125, rtol=1e-6)


def test_guided_attention_by_hand():
    def penalty(step, position, steps, positions):
        return 1 - np.exp(-((step / steps - position / positions) ** 2) / (2 * 0.2**2))

    first = sum(WEIGHTS[0, i, j] * penalty(i, j, 3, 3) for i in range(3) for j in range(3)) / 9
    second = sum(WEIGHTS[1, i, 0] * penalty(i, 0, 2, 1) for i in range(2)) / 2
    np.testing.assert_allclose(GuidedAttentionLoss(reduction="none")(REAL, WEIGHTS), [first, second], rtol=1e-5)
    wide = GuidedAttentionLoss(sigma=0.4)(REAL, WEIGHTS)
    assert 0 < float(wide) < float(GuidedAttentionLoss()(REAL, WEIGHTS))


def test_rows_of_padding_cost_nothing():
    for loss in (CoverageLoss(), GuidedAttentionLoss()):
        np.testing.assert_array_equal(loss(np.zeros((2, 3, 4), bool), np.full((2, 3, 4), np.nan, "float32")), 0)


@pytest.mark.parametrize("loss", [CoverageLoss(0.5), GuidedAttentionLoss(0.3)])
def test_a_decoder_adds_its_loss_in_training_only(loss, rng):
    layer = ka.AdditiveRNNAttention(3, attention_loss=loss)
    inputs, memory = rng.normal(size=(2, 4, 3)).astype("float32"), rng.normal(size=(2, 5, 3)).astype("float32")
    inputs_mask, memory_mask = np.arange(4) < [[4], [2]], np.arange(5) < [[3], [5]]
    arguments = {"inputs_mask": inputs_mask, "memory_mask": memory_mask}
    _, scores = layer(inputs, memory, return_attention_scores=True, **arguments)
    assert layer.losses == []
    assert keras.ops.is_tensor(layer(inputs, memory, training=True, **arguments))
    (added,) = layer.losses
    real = inputs_mask[:, :, None] & memory_mask[:, None]
    np.testing.assert_allclose(added, loss(real, scores), rtol=1e-5)
    again = layer.__class__.from_config(layer.get_config())
    assert again.attention_loss.get_config() == loss.get_config()


@pytest.mark.trains
def test_a_recipe_trains_with_the_loss_and_saves_it(tmp_path):
    model = ka.models.RNNSeq2Seq(9, 9, size=4, attention_loss=CoverageLoss(10.0))
    model.compile("adam", MaskedCrossentropy())
    ids = {"source": np.array([[4, 5, 2], [6, 2, 0]]), "target": np.array([[1, 4, 5], [1, 6, 0]])}
    history = model.fit(ids, np.array([[4, 5, 2], [6, 2, 0]]), epochs=1, verbose=0).history
    evaluated = model.evaluate(ids, np.array([[4, 5, 2], [6, 2, 0]]), verbose=0)
    assert history["loss"][0] > evaluated + 1  # the coverage loss is added in training only
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_layer("decoder").attention_loss.weight == 10


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`weight` must be a number of at least 0"):
        CoverageLoss(-1.0)
    with pytest.raises(ValueError, match="`sigma` must be a number above 0"):
        GuidedAttentionLoss(0.0)
    with pytest.raises(ValueError, match="`y_pred` must have shape"):
        CoverageLoss()(REAL, WEIGHTS[:, :2])
    with pytest.raises(ValueError, match="`attention_loss` must be"):
        ka.AdditiveRNNAttention(3, attention_loss="coverage")
