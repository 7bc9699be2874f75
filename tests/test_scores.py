"""The scores that fill the recurrent decoder's slot."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn.recurrent.scores import Score


def test_additive_score_by_hand():
    score = ka.AdditiveScore(1)
    score.build((None, 1), (None, None, 1))
    score.set_weights([np.array([2.0]), np.array([[0.5]]), np.array([[1.0]])])
    keys = score.keys(ops.convert_to_tensor([[[0.0], [1.0]]]))
    np.testing.assert_allclose(score(ops.ones((1, 1)), keys), [[2 * np.tanh(0.5), 2 * np.tanh(1.5)]], rtol=1e-6)


def test_multiplicative_score_by_hand():
    score = ka.MultiplicativeScore()
    score.build((None, 2), (None, None, 1))
    score.set_weights([np.array([[1.0, 3.0]])])
    keys = score.keys(ops.convert_to_tensor([[[1.0], [2.0]]]))
    np.testing.assert_allclose(score(ops.convert_to_tensor([[1.0, 1.0]]), keys), [[4.0, 8.0]], rtol=1e-6)


def test_a_user_written_score_fills_the_slot(rng):
    class Nearest(Score):
        def build(self, query_shape, memory_shape):
            pass

        def keys(self, memory):
            return memory

        def call(self, query, keys):
            return -ops.sum((query[:, None] - keys) ** 2, axis=-1)

    layer = ka.RNNAttention(keras.layers.GRUCell(4), Nearest())
    memory = rng.normal(size=(2, 3, 4)).astype("float32")
    _, scores = layer(rng.normal(size=(2, 1, 5)).astype("float32"), memory, return_attention_scores=True)
    wanted = np.exp(-(memory**2).sum(-1))
    np.testing.assert_allclose(scores[:, 0], wanted / wanted.sum(-1, keepdims=True), atol=1e-5)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`units` must be an integer of at least 1"):
        ka.AdditiveScore(0)
    score = ka.AdditiveScore(3)
    score.build((None, 4), (None, None, 5))
    with pytest.raises(ValueError, match=r"`query` must have 2 axes, \[B, D\]"):
        score(np.zeros((2, 3, 4), "float32"), np.zeros((2, 7, 3), "float32"))
    with pytest.raises(ValueError, match="`keys` must have shape .* with B=2"):
        score(np.zeros((2, 4), "float32"), np.zeros((3, 7, 3), "float32"))
