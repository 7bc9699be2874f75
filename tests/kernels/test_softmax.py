"""The masked softmax: empty rows, single keys, wide dtypes."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn.kernels import masked_softmax


def test_by_hand():
    scores = np.log(np.array([[1.0, 2.0, 5.0], [1.0, 1.0, 1.0]], "float32"))
    visible = np.array([[True, True, False], [False, False, False]])
    np.testing.assert_allclose(masked_softmax(scores, visible), [[1 / 3, 2 / 3, 0], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize("visible", [True, False])
def test_a_single_key_has_all_the_weight_or_none(visible):
    scores = np.array([[3.0], [-2.0]], "float32")
    np.testing.assert_array_equal(masked_softmax(scores), [[1], [1]])
    np.testing.assert_array_equal(masked_softmax(scores, np.full((2, 1), visible)), np.full((2, 1), float(visible)))


def test_nan_behind_the_mask_does_not_come_through():
    scores = np.array([[0.0, np.nan, np.inf]], "float32")
    np.testing.assert_array_equal(masked_softmax(scores, np.array([[True, False, False]])), [[1, 0, 0]])


@pytest.mark.parametrize(("dtype", "wide"), [("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64")])
def test_runs_in_float32_or_wider(dtype, wide):
    weights = masked_softmax(ops.ones((2, 3), dtype))
    assert keras.backend.standardize_dtype(weights.dtype) == wide
