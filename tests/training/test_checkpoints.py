"""The last checkpoints: how many there are, what is in them, what a killed writer leaves."""

import keras
import numpy as np
import pytest

from keras_attn.training import Checkpoints, average_weights


@pytest.fixture
def xy(rng):
    return rng.normal(size=(7, 3)).astype("float32"), rng.normal(size=(7, 2)).astype("float32")


def new_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return model


def state(model):
    return [np.array(keras.ops.convert_to_numpy(each)) for each in [*model.weights, *model.optimizer.variables]]


@pytest.mark.trains
def test_the_last_epochs_are_kept_and_can_be_averaged(tmp_path, xy):
    seen = []
    model, checkpoints = new_model(), Checkpoints(tmp_path / "made" / "here", number=2)
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(model.get_weights()[0]))
    model.fit(*xy, epochs=4, callbacks=[checkpoints, keep], verbose=0)
    assert [path.name for path in checkpoints.files] == ["00003.weights.h5", "00004.weights.h5"]
    average_weights(model, checkpoints.files)
    np.testing.assert_allclose(model.get_weights()[0], (seen[2] + seen[3]) / 2, atol=1e-7)


@pytest.mark.trains
def test_a_training_goes_on_with_the_same_state(tmp_path, xy):
    whole, first = new_model(), new_model()
    first.set_weights(whole.get_weights())
    whole.fit(*xy, epochs=3, shuffle=False, verbose=0)
    first.fit(*xy, epochs=2, shuffle=False, callbacks=[Checkpoints(tmp_path)], verbose=0)
    second, checkpoints = new_model(), Checkpoints(tmp_path)
    done = checkpoints.restore(second)
    assert done == 2
    for value, wanted in zip(state(second), state(first), strict=True):
        np.testing.assert_array_equal(value, wanted)
    second.fit(*xy, epochs=3, initial_epoch=done, shuffle=False, callbacks=[checkpoints], verbose=0)
    for value, wanted in zip(state(second), state(whole), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-6)
    assert [path.name[:5] for path in checkpoints.files] == ["00001", "00002", "00003"]


@pytest.mark.trains
def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path, xy, monkeypatch):
    model, checkpoints = new_model(), Checkpoints(tmp_path)
    model.fit(*xy, callbacks=[checkpoints], verbose=0)

    def killed(path):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "save_weights", killed)
    checkpoints.set_model(model)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.on_epoch_end(1)
    assert checkpoints.restore(model) == 1


def test_an_empty_or_missing_folder_holds_nothing(tmp_path):
    assert Checkpoints(tmp_path / "missing").restore(new_model()) == 0
    (tmp_path / "notes.weights.h5").touch()
    assert Checkpoints(tmp_path).files == []


def test_the_number_is_positive(tmp_path):
    with pytest.raises(ValueError, match=r"`number` must be.*Received: number=0"):
        Checkpoints(tmp_path, number=0)


@pytest.mark.trains
def test_another_training_in_the_same_folder_is_refused(tmp_path, xy):
    new_model().fit(*xy, epochs=2, callbacks=[Checkpoints(tmp_path)], verbose=0)
    with pytest.raises(ValueError, match=r"holds a training of 2 epochs: resume it.*Received: epoch 0"):
        new_model().fit(*xy, epochs=1, callbacks=[Checkpoints(tmp_path)], verbose=0)
    assert [path.name[:5] for path in Checkpoints(tmp_path).files] == ["00001", "00002"]


def test_a_model_is_compiled_before(tmp_path):
    with pytest.raises(ValueError, match="`model` must be built and compiled.* compiled=False"):
        Checkpoints(tmp_path).restore(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
