"""Settings for the whole process."""

import numpy as np
import pytest

import keras_attn as ka
from keras_attn import config
from keras_attn.kernels import dispatch


@pytest.fixture
def kernels_run(monkeypatch):
    """The names of the kernels that run, in order."""
    names = []
    choose = dispatch.choose_kernel

    def choose_and_note(*arguments):
        names.append(choose(*arguments))
        return names[-1]

    monkeypatch.setattr(dispatch, "choose_kernel", choose_and_note)
    yield names
    config.set_kernel("auto")


def test_the_kernel_of_a_layer_takes_precedence_over_set_kernel(kernels_run, rng):
    x = rng.normal(size=(2, 5, 12)).astype("float32")
    plain, pinned = ka.MultiHeadSelfAttention(2), ka.MultiHeadSelfAttention(2, kernel="dense")
    wanted = plain(x)
    config.set_kernel("blockwise")
    assert config.kernel() == "blockwise"
    np.testing.assert_allclose(plain(x), wanted, atol=1e-6)
    pinned(x)
    plain(x, return_attention_scores=True)
    assert kernels_run == ["dense", "blockwise", "dense", "dense"]


def test_set_kernel_is_a_context_manager(kernels_run, rng):
    x, layer = rng.normal(size=(2, 5, 12)).astype("float32"), ka.MultiHeadSelfAttention(2)
    config.set_kernel("dense")  # also a plain setter
    with config.set_kernel("blockwise"):
        layer(x)
        with config.set_kernel("auto"):
            assert config.kernel() == "auto"
        layer(x)
    layer(x)
    assert kernels_run == ["blockwise", "blockwise", "dense"]
    with pytest.raises(RuntimeError, match="inside"), config.set_kernel("blockwise"):
        raise RuntimeError("inside")
    assert config.kernel() == "dense"
    with pytest.raises(ValueError, match="`kernel` must be one of"), config.set_kernel("flash"):
        pass
    assert config.kernel() == "dense"


def test_unknown_kernels_are_named():
    for make in (config.set_kernel, lambda kernel: ka.MultiHeadSelfAttention(2, kernel=kernel)):
        with pytest.raises(ValueError, match="`kernel` must be one of .* Received: kernel='flash'"):
            make("flash")
