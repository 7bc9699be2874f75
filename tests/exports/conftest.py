"""Keras' other exports run where their runtimes are installed (`requirements.txt`) and are skipped elsewhere."""

import keras
import pytest

if keras.config.backend() != "tensorflow":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def quiet():
    """The converters and runtimes warn of their own doings: of NumPy's old names, of saved gradients."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
