"""Residual wirings and the norms they make."""

import keras
import numpy as np
import pytest

import keras_attn as ka
from keras_attn.transformer.residual import Residual


def halve(x):
    return x / 2


@pytest.mark.parametrize(("residual", "wanted"), [(ka.PostNorm, 3.0), (ka.PreNorm, 4.0), (ka.InnerNorm, 4.0)])
def test_by_hand(residual, wanted):
    """With f(x) = 2x and a "norm" that halves, at x = 2: (2+4)/2, 2+2*1, 2+4/2."""
    wiring = residual()
    assert wiring.after(2.0, 2 * wiring.before(2.0, halve), halve) == wanted


def test_a_sandwich_by_hand():
    """At x = 4 with f(x) = 2x, a first "norm" that halves and a second one that adds 1: 4 + (2 * 2 + 1)."""
    wiring = ka.SandwichNorm()
    assert wiring.after(4.0, 2 * wiring.before(4.0, halve), lambda y: y + 1) == 9.0


def test_which_stacks_end_in_a_norm():
    wirings = ka.PostNorm(), ka.PreNorm(), ka.InnerNorm(), ka.SandwichNorm()
    assert [wiring.final_norm for wiring in wirings] == [False, True, False, True]
    assert [wiring.two_norms for wiring in wirings] == [False, False, False, True]


@pytest.mark.parametrize(
    "residual", [ka.PostNorm(), ka.PreNorm(ka.RMSNorm(1e-3)), ka.InnerNorm(ka.LayerNorm(0.1)), ka.SandwichNorm()]
)
def test_config_round_trip_and_equality(residual):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(residual))
    assert again == residual
    assert again.norm.epsilon == residual.norm.epsilon
    assert residual != residual.__class__(ka.LayerNorm(0.5))


def test_norms_compute_what_they_say(rng):
    x = rng.normal(size=(2, 3, 5)).astype("float32")
    centred = x - x.mean(-1, keepdims=True)
    wanted = centred / np.sqrt(x.var(-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(ka.LayerNorm(0.1).make("norm", None)(x), wanted, atol=1e-5)
    wanted = x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(ka.RMSNorm(0.1).make("norm", None)(x), wanted, atol=1e-5)


def test_bad_norms_and_abstract_wirings():
    with pytest.raises(ValueError, match="`norm` must be a Norm of keras_attn or None. Received: norm='rms'"):
        ka.PreNorm("rms")
    assert Residual().before(1.0, halve) == 1.0
    with pytest.raises(NotImplementedError, match="`Residual` must define"):
        Residual().after(1.0, 2.0, halve)
