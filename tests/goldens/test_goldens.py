"""Models that earlier versions saved load in this one and give the numbers that they gave then."""

import pathlib

import keras
import numpy as np
import pytest

from tests.conformance.cases import CASES
from tests.goldens.write import FOLDER, MEMBER, read, recipes

ROOT = pathlib.Path(__file__).parent
GOLDENS = sorted(ROOT.rglob("*.keras"))


def test_every_case_and_recipe_has_a_golden():
    names = {path.stem for path in FOLDER.glob("*.keras")}
    assert names == {case.name for case in CASES} | set(recipes())


def test_goldens_are_small():
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) < 3_000_000


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_loads_with_equal_numbers(path):
    inputs, wanted = read(path)
    outputs = keras.tree.flatten(keras.models.load_model(path)(inputs))
    assert len(outputs) == len(wanted)
    for one, two in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), two, atol=1e-5, rtol=1e-5)


@pytest.mark.tensorflow  # TensorFlow reads SavedModels
@pytest.mark.parametrize("folder", sorted(ROOT.glob("*/saved_model/1")), ids=lambda path: path.parts[-3])
def test_saved_model_answers_with_equal_numbers(folder):
    import tensorflow as tf

    with np.load(folder / MEMBER) as golden:
        answer = tf.saved_model.load(str(folder)).signatures["serving_default"](tokens=tf.constant(golden["tokens"]))
        np.testing.assert_allclose(answer["logits"], golden["logits"], atol=1e-5, rtol=1e-5)
