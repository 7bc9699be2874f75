"""Averaged checkpoints: the mean in float64, both kinds of files, and nothing changed where it fails."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn.training import average_weights


def new_model(units=3, dtype=None):
    layers = [
        keras.layers.Dense(units, dtype=dtype),
        keras.layers.BatchNormalization(dtype=dtype),
        keras.layers.Dropout(0.5),
    ]
    return keras.Sequential([keras.Input((2,)), *layers])


def fill(model, value):
    for weight in model.weights:
        weight.assign(np.full(weight.shape, value))


def values(variables):
    return [ops.convert_to_numpy(variable) for variable in variables]


@pytest.fixture
def checkpoints(tmp_path):
    """A model and two files of it, with a loss between them too small for a mean in float32 by sums."""
    model = new_model()
    fill(model, 2.0)
    model.save_weights(tmp_path / "first.weights.h5")
    fill(model, 5.0)
    model.save(tmp_path / "second.keras")
    fill(model, 100.0)
    return model, [tmp_path / "first.weights.h5", str(tmp_path / "second.keras")]


def test_the_mean_of_both_kinds_of_files(checkpoints):
    model, paths = checkpoints
    average_weights(model, paths)
    for value in values(model.weights):  # those that are not trained too
        np.testing.assert_array_equal(value, np.full(value.shape, 3.5))
    average_weights(model, [paths[0], paths[1], paths[1]])
    np.testing.assert_array_equal(values(model.weights)[0], np.full((2, 3), 4.0))
    average_weights(model, paths[:1])
    np.testing.assert_array_equal(values(model.weights)[0], np.full((2, 3), 2.0))


def test_sums_are_wide(tmp_path):
    model, paths = new_model(dtype="bfloat16"), []
    for value in (256.0, 1.0, 1.0, 2.0):  # in bfloat16, 256 + 1 = 256
        fill(model, value)
        paths.append(tmp_path / f"{len(paths)}.weights.h5")
        model.save_weights(paths[-1])
    average_weights(model, paths)
    np.testing.assert_array_equal(values(model.weights)[0].astype("float32"), np.full((2, 3), 65.0))


@pytest.mark.trains
def test_the_optimizer_is_that_of_the_last(tmp_path):
    model, paths, states = new_model(), [tmp_path / "first.weights.h5", tmp_path / "second.keras"], []
    model.compile("adam", "mse", run_eagerly=True)
    for path in paths:
        model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
        (model.save if path.suffix == ".keras" else model.save_weights)(path)
        states.append(values(model.optimizer.variables))
    generators = values(model.layers[-1].variables)
    for order in ([0, 1], [1, 0]):
        average_weights(model, [paths[i] for i in order])
        for value, last in zip(values(model.optimizer.variables), states[order[-1]], strict=True):
            np.testing.assert_array_equal(value, last)
    np.testing.assert_array_equal(values(model.layers[-1].variables), generators)


@pytest.mark.trains
def test_a_failure_leaves_the_model_as_it_was(tmp_path):
    model = new_model()
    model.compile("adam", "mse", run_eagerly=True)
    for name in ("first", "second"):
        model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
        model.save_weights(tmp_path / f"{name}.weights.h5")
    new_model(units=5).save_weights(tmp_path / "other.weights.h5")
    before = values([*model.variables, *model.optimizer.variables])
    with pytest.raises(ValueError, match="must be checkpoints of `model`"):
        average_weights(model, [tmp_path / "first.weights.h5", tmp_path / "other.weights.h5"])
    with pytest.raises(FileNotFoundError):
        average_weights(model, [tmp_path / "first.weights.h5", tmp_path / "none.weights.h5"])
    for value, kept in zip(values([*model.variables, *model.optimizer.variables]), before, strict=True):
        np.testing.assert_array_equal(value, kept)


def test_bad_arguments_are_named(checkpoints):
    model, _ = checkpoints
    with pytest.raises(ValueError, match=r"`paths` must hold at least one checkpoint. Received: paths=\[\]"):
        average_weights(model, [])
    with pytest.raises(ValueError, match=r"`paths` must end in one of .*\.weights\.h5.*Received: 'model.ckpt'"):
        average_weights(model, ["model.ckpt"])
    quantized = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    quantized.quantize("int8")
    with pytest.raises(ValueError, match="`model` must have only floating-point weights. Received: .*kernel.* of int8"):
        average_weights(quantized, ["model.weights.h5"])


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_of_a_larger_model_are_refused(suffix, checkpoints, tmp_path):
    model, paths = checkpoints
    larger = keras.Sequential([*new_model().layers, keras.layers.Dense(4)])
    larger.build((None, 2))
    path = tmp_path / f"larger{suffix}"
    (larger.save_weights if suffix == ".weights.h5" else larger.save)(path)
    with pytest.raises(ValueError, match=r"`paths` must be checkpoints of `model`, in which .* is missing. Received"):
        average_weights(model, [paths[0], path])
    np.testing.assert_array_equal(values(model.weights)[0], np.full((2, 3), 100.0))


def test_weights_that_are_not_finite_are_refused(checkpoints):
    model, paths = checkpoints
    fill(model, np.nan)
    model.save_weights(paths[0])
    fill(model, 7.0)
    with pytest.raises(ValueError, match=r"`paths` must hold finite weights. Received: '.*first.weights.h5' with"):
        average_weights(model, paths)
    np.testing.assert_array_equal(values(model.weights)[0], np.full((2, 3), 7.0))


def test_one_path_is_no_list(checkpoints):
    model, paths = checkpoints
    with pytest.raises(ValueError, match=r"`paths` must be a list of paths. Received: '.*second.keras'"):
        average_weights(model, paths[1])
