"""What the JAX backend exports loads in TensorFlow and answers there as it did in JAX; `check` says what it holds."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_attn import serving
from tests.exports import subjects

# Converters and runtimes have warnings of their own.
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore")]

ROOT = pathlib.Path(__file__).parents[2]
NAMES = [*(f"{name}-{lengths}" for name in subjects.MODELS for lengths in ("free", "fixed")), "long"]


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The folder that a process of the JAX backend wrote."""
    pytest.importorskip("jax", reason="pip install -r tests/exports/requirements.txt")
    folder = tmp_path_factory.mktemp("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.exports.export_from_jax", str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_tensorflow_answers_as_keras_did_under_jax(name, exported):
    """`long` is attention whose length is one for the blockwise kernel, but for the export."""
    loaded = tf.saved_model.load(str(exported / name / "1"))
    for path in sorted((exported / name).glob("*.npz")):
        arrays = {key: tf.constant(array) for key, array in np.load(path).items()}
        wanted = arrays.pop("answer")
        named = name.split("-")[0] not in ("classifier", "long")
        found = loaded.serve(arrays if named else next(iter(arrays.values())))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_check_says_that_it_needs_xla(exported):
    report = serving.check(exported / "classifier-free")
    assert not report.ok
    assert "serving_default: uses XlaCallModule (an export of Keras' JAX backend is a program for XLA" in str(report)
