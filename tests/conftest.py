"""One import of the backend per worker, one thread each: two workers share two cores."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import keras
import numpy as np
import pytest

if keras.config.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.get_logger().setLevel("ERROR")

elif keras.config.backend() == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)  # the oracles are float64


def pytest_addoption(parser):
    parser.addoption(
        "--floatx",
        default="float32",
        choices=["float16", "bfloat16", "float32", "float64"],
        help="what `keras.config.floatx()` is while the tests run",
    )


def pytest_configure(config):
    keras.config.set_floatx(config.getoption("--floatx"))


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(7)


@pytest.fixture(autouse=keras.config.backend() == "torch")
def no_gradients_unless_training(request):
    """PyTorch's tensors turn to arrays only where no gradient is kept."""
    import torch

    with torch.set_grad_enabled(request.node.get_closest_marker("trains") is not None):
        yield


@pytest.fixture(autouse=keras.config.backend() == "jax", scope="module")
def compiled_code_is_dropped():
    """Drops what JAX compiled for a file: a process that keeps all of it runs out of memory mappings, and dies."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def rng():
    return np.random.default_rng(7)
