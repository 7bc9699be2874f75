"""A user's recurrent encoder: its mask reaches the attention behind it, on every version of Keras."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka

IDS = np.array([[5, 6, 7, 0, 0], [3, 4, 5, 6, 2], [8, 0, 0, 0, 0]])
REAL = IDS != 0
T, D, UNITS = 3, 4, 7


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def bidirectional(**named):
    return keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True, **named))


def attending_model(encode):
    """Ids -> encoder -> additive attention of a decoder: the model of its outputs and scores."""
    ids, inputs = keras.Input((None,), dtype="int32"), keras.Input((None, D))
    outputs, scores = encode(ids, lambda *memory, **named: ka.AdditiveRNNAttention(5)(inputs, *memory, **named))
    return keras.Model([ids, inputs], [outputs, scores])


def wrapped(ids, attend):
    embedded = keras.layers.Embedding(11, D, mask_zero=True)(ids)
    return attend(ka.RecurrentEncoder(bidirectional())(embedded), return_attention_scores=True)


def explicit(ids, attend):
    """The way without our layer: one mask, passed to both; from Keras 3.16 on it warns."""
    real = ops.not_equal(ids, 0)
    memory = bidirectional()(keras.layers.Embedding(11, D)(ids), mask=real)
    return attend(memory, memory_mask=real, return_attention_scores=True)


def test_reloaded_recipes_pass_masks_without_a_warning(tmp_path):
    model = ka.models.RNNSeq2Seq(11, 11, size=5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    encoder = again.get_layer("encoder")
    assert all(layer.supports_masking for layer in (encoder, encoder.forward_layer, encoder.backward_layer))
    ids = {"source": IDS, "target": IDS}
    np.testing.assert_array_equal(numpy(again(ids)), numpy(model(ids)))


WITH_KERAS_REMARK = pytest.param(explicit, marks=pytest.mark.filterwarnings("ignore:.*does not support masking"))


@pytest.mark.parametrize("encode", [wrapped, WITH_KERAS_REMARK])
def test_padding_is_not_attended_to(encode, rng):
    model, inputs = attending_model(encode), rng.normal(size=(3, T, D)).astype("float32")
    outputs, scores = map(numpy, model([IDS, inputs]))
    np.testing.assert_array_equal(scores[np.broadcast_to(~REAL[:, None], scores.shape)], 0)
    for row, length in enumerate(REAL.sum(axis=1)):
        alone = numpy(model([IDS[row : row + 1, :length], inputs[row : row + 1]])[0])
        np.testing.assert_allclose(outputs[row], alone[0], atol=1e-6)


def test_layers_in_a_row_and_states(rng):
    embedded = keras.layers.Embedding(11, D, mask_zero=True)(IDS)
    last = ka.RecurrentEncoder(keras.layers.GRU(UNITS, return_sequences=True, return_state=True))
    first = ka.RecurrentEncoder(bidirectional())
    outputs, state = last(first(embedded))
    np.testing.assert_array_equal(numpy(outputs._keras_mask), REAL)
    for row, length in enumerate(REAL.sum(axis=1)):
        np.testing.assert_allclose(numpy(state)[row], numpy(outputs)[row, length - 1], atol=1e-6)
    assert [tuple(spec.shape) for spec in last.compute_output_spec(keras.KerasTensor((None, None, 2 * UNITS)))] == [
        (None, None, UNITS),
        (None, UNITS),
    ]


def test_a_model_around_it_reloads(tmp_path, rng):
    model, inputs = attending_model(wrapped), rng.normal(size=(3, T, D)).astype("float32")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(again([IDS, inputs])[1]), numpy(model([IDS, inputs])[1]))


@pytest.mark.parametrize("layer", [lambda: keras.layers.Dense(3), lambda: keras.layers.LSTMCell(3), lambda: "lstm"])
def test_other_layers_are_refused(layer):
    with pytest.raises(ValueError, match=r"`layer` must be a `keras.layers.RNN` or `Bidirectional`. Received: layer="):
        ka.RecurrentEncoder(layer())


def test_what_returns_no_sequence_is_refused():
    two = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True), merge_mode=None)
    for layer in (keras.layers.LSTM(3), keras.layers.Bidirectional(keras.layers.GRU(3)), two):
        with pytest.raises(ValueError, match="`layer` must return one sequence: make it with `return_sequences=True`"):
            ka.RecurrentEncoder(layer)
