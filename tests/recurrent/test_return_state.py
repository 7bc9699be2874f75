"""`return_state=True`: the last state of the cell behind the outputs, as Keras' recurrent layers return it."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka

B, T, S, D, M, U = 3, 5, 7, 4, 6, 11


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def stacked():
    return keras.layers.StackedRNNCells([keras.layers.LSTMCell(5), keras.layers.GRUCell(U)])


LAYERS = {
    "additive": (lambda: ka.AdditiveRNNAttention(U, return_state=True), [U]),
    "lstm": (
        lambda: ka.RNNAttention(keras.layers.LSTMCell(U), ka.MultiplicativeScore(), return_state=True),
        [U, U],
    ),
    "stacked": (lambda: ka.RNNAttention(stacked(), ka.AdditiveScore(3), return_state=True), [5, 5, U]),
}


@pytest.fixture
def arrays(rng):
    return rng.normal(size=(B, T, D)).astype("float32"), rng.normal(size=(B, S, M)).astype("float32")


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("with_scores", [False, True])
def test_all_state_tensors_follow(name, with_scores, arrays):
    make, sizes = LAYERS[name]
    layer = make()
    outputs, *rest = layer(*arrays, return_attention_scores=with_scores)
    states = rest[1:] if with_scores else rest
    assert [tuple(state.shape) for state in states] == [(B, size) for size in sizes]
    np.testing.assert_allclose(numpy(states[-1 if name == "stacked" else 0]), numpy(outputs)[:, -1, :U], atol=1e-6)
    symbolic = layer.compute_output_spec(
        *(keras.KerasTensor(array.shape) for array in arrays), return_attention_scores=with_scores
    )
    assert [tuple(each.shape) for each in symbolic] == [tuple(each.shape) for each in (outputs, *rest)]


@pytest.mark.parametrize("name", LAYERS)
def test_the_state_continues_the_sequence(name, arrays):
    inputs, memory = arrays
    layer = LAYERS[name][0]()
    whole, *last = layer(inputs, memory)
    first, *states = layer(inputs[:, :2], memory)
    start = [states[:2], states[2:]] if name == "stacked" else states
    second, *end = layer(inputs[:, 2:], memory, initial_state=start)
    np.testing.assert_allclose(numpy(ops.concatenate([first, second], axis=1)), numpy(whole), atol=1e-5)
    for one, other in zip(end, last, strict=True):
        np.testing.assert_allclose(numpy(one), numpy(other), atol=1e-5)


def test_masked_steps_carry_the_state_on(arrays):
    inputs, memory = arrays
    layer = ka.AdditiveRNNAttention(U, return_state=True)
    mask = np.arange(T) < np.array([[5], [2], [0]])
    _, state = layer(inputs, memory, inputs_mask=mask)
    _, short = layer(inputs[:, :2], memory)
    np.testing.assert_allclose(numpy(state)[1], numpy(short)[1], atol=1e-6)
    np.testing.assert_array_equal(numpy(state)[2], 0)


def test_a_functional_model_saves_and_loads(arrays, tmp_path):
    inputs, memory = keras.Input((None, D)), keras.Input((None, M))
    outputs, scores, state = ka.AdditiveRNNAttention(U, return_state=True)(inputs, memory, return_attention_scores=True)
    model = keras.Model([inputs, memory], [outputs, scores, keras.layers.Dense(2)(state)])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(model(list(arrays)), again(list(arrays)), strict=True):
        np.testing.assert_array_equal(numpy(one), numpy(other))


def test_only_the_outputs_have_a_mask(arrays):
    mask = np.arange(T) < np.array([[5], [2], [3]])
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    tensors[0]._keras_mask = ops.convert_to_tensor(mask)
    outputs, state = ka.AdditiveRNNAttention(U, return_state=True)(*tensors)
    np.testing.assert_array_equal(numpy(outputs._keras_mask), mask)
    assert getattr(state, "_keras_mask", None) is None
