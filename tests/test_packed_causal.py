"""Rows that hold several texts of a decoder-only model: the same logits, loss and gradients as a row per text."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import models
from tests.test_packed_transformer import step

T, V = 13, 17
LENGTHS = [5, 2, 4, 7, 5, 3]
ROWS = [[0, 1, 2], [3, 4], [5]]  # which texts stand in which packed row
WINDOW = ka.Causal() & ka.Window(3)
VARIANTS = {
    "Sinusoidal": {},
    "Learned": {"position": ka.Learned(T)},
    "Rotary": {"position": ka.Rotary()},
    "Window": {"mask": WINDOW},
    "Window-Rotary": {"mask": WINDOW, "position": ka.Rotary()},
}
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def make(variant):
    return models.CausalTransformer(V, 2, 12, 2, 17, dropout=0.0, **variant)


@pytest.fixture
def texts(rng):
    """What is read of each text, and its labels."""
    return [(np.append(1, rng.integers(4, V, t - 1)), rng.integers(4, V, t)) for t in LENGTHS]


def packed(texts, rows=ROWS):
    """Returns inputs and labels with so many texts in each row."""
    names = ("target", "target_segment_ids", "target_positions")
    inputs, labels = {name: np.zeros((len(rows), T), "int32") for name in names}, np.zeros((len(rows), T), "int32")
    for row, members in enumerate(rows):
        begin = 0
        for segment, text in enumerate(members, start=1):
            ids, wanted = texts[text]
            part = row, slice(begin, begin + len(ids))
            for name, value in zip(names, (ids, segment, np.arange(len(ids))), strict=True):
                inputs[name][part] = value
            labels[part] = wanted
            begin += len(ids)
    return inputs, labels


def unpacked(texts):
    """Returns inputs and labels with one text in each row, and no word of segments."""
    inputs, labels = packed(texts, [[text] for text in range(len(texts))])
    return {"target": inputs["target"]}, labels


@pytest.mark.trains
@each_variant
def test_logits_loss_and_every_gradient_are_those_of_unpacked_rows(variant, texts):
    model = make(variant)
    weights = [0.3 * weight for weight in model.get_weights()]  # keeps gradients and their rounding small
    expected_loss, expected = step(lambda: make(variant), weights, unpacked(texts))
    loss, gradients = step(lambda: make(variant), weights, packed(texts))
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))
        assert gradient.any() or not wanted.any()


@each_variant
def test_logits_are_those_of_each_text_alone(variant, texts):
    model, (inputs, _) = make(variant), packed(texts)
    logits = ops.convert_to_numpy(model(inputs))
    for row, members in enumerate(ROWS):
        for segment, text in enumerate(members, start=1):
            alone = ops.convert_to_numpy(model({"target": texts[text][0][None]}))[0]
            np.testing.assert_allclose(logits[row][inputs["target_segment_ids"][row] == segment], alone, atol=1e-5)


def test_packed_rows_inside_a_larger_model_and_in_fit(texts):
    model, (inputs, labels) = make({}), packed(texts)
    symbolic = {name: keras.Input((None,), dtype="int32", name=name) for name in inputs}
    outer = keras.Model(symbolic, model(symbolic))
    np.testing.assert_allclose(*(ops.convert_to_numpy(each(inputs)) for each in (outer, model)), atol=1e-6)
    predicted = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(predicted, ops.convert_to_numpy(model(inputs)), atol=1e-5)
    assert labels.shape == predicted.shape[:2]


def test_bad_packed_inputs_are_named(texts):
    model, (inputs, _) = make({}), packed(texts)
    for name in ("target_positions", "target_segment_ids"):
        part = {key: ids for key, ids in inputs.items() if key != name}
        with pytest.raises(ValueError, match=r"Packed inputs must have all of \('target_segment_ids', 'target_posi"):
            model(part)
    with pytest.raises(ValueError, match=r"`target_positions` must have shape \[B, T\] with T=13 as in `target`"):
        model({**inputs, "target_positions": inputs["target_positions"][:, :-1]})
    with pytest.raises(ValueError, match="`positions` must be from 0 to 12, the positions of a table of max_length=13"):
        make(VARIANTS["Learned"])({**inputs, "target_positions": inputs["target_positions"] + 9})
