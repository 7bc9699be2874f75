"""Additive attention of one query and of whole sequences, against NumPy in float64, with gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import kernels, masks
from keras_attn.kernels import additive

B, T, S, U, M = 2, 7, 11, 5, 3


@pytest.fixture(autouse=True, scope="module")
def tiny_tiles():
    """Tiles of 3 queries and 4 keys, so that small shapes have many tiles, the last ones incomplete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(additive, "BLOCKS", (3, 4))
        yield


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


@pytest.fixture
def arrays(rng):
    return [rng.normal(size=shape).astype("float32") for shape in ((B, T, U), (B, S, U), (U,), (B, S, M))]


def by_hand(query, keys, v, memory, visible):
    """Contexts and scores, one query at a time."""
    scores = np.zeros((B, T, S))
    for b, t in np.ndindex(B, T):
        seen = np.flatnonzero(visible[b, t])
        if len(seen):
            weights = np.exp([v.astype("float64") @ np.tanh(query[b, t] + keys[b, s]) for s in seen])
            scores[b, t, seen] = weights / weights.sum()
    return np.einsum("bts,bsm->btm", scores, memory), scores


def test_the_score_of_one_query(arrays):
    query, keys, v, _ = arrays
    wanted = np.tanh(query[:, :1] + keys) @ v
    np.testing.assert_allclose(numpy(kernels.additive_scores(query[:, 0], keys, v)), wanted, atol=1e-5)


@pytest.mark.parametrize("given", ["none", "tensor", "pattern", "padding"])
def test_equals_the_formula(given, arrays, rng):
    visible, mask = np.ones((B, T, S), bool), None
    if given == "tensor":
        mask = visible = rng.random((B, T, S)) < 0.6
        visible[1, 2] = False
    elif given == "pattern":
        mask, visible = masks.Causal(), np.broadcast_to(np.tri(T, S, S - T, dtype=bool), (B, T, S))
    elif given == "padding":
        key_mask = rng.random((B, S)) < 0.6
        mask, visible = masks.Padding(None, key_mask), np.broadcast_to(key_mask[:, None], (B, T, S))
    wanted, wanted_scores = by_hand(*arrays, visible)
    np.testing.assert_allclose(numpy(kernels.additive_attention(*arrays, mask=mask)), wanted, atol=1e-5)
    contexts, scores = kernels.additive_attention(*arrays, mask=mask, return_scores=True)
    np.testing.assert_allclose(numpy(contexts), wanted, atol=1e-5)
    np.testing.assert_allclose(numpy(scores), wanted_scores, atol=1e-5)
    np.testing.assert_array_equal(numpy(scores)[~visible], 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision(dtype, arrays):
    low = [ops.cast(array, dtype) for array in arrays]
    outputs = kernels.additive_attention(*low)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    wanted, _ = by_hand(*(numpy(each) for each in low), np.ones((B, T, S), bool))
    np.testing.assert_allclose(numpy(outputs), wanted, atol={"bfloat16": 2e-2, "float16": 3e-3}[dtype])


def test_bad_shapes_raise(arrays):
    query, keys, v, memory = arrays
    with pytest.raises(ValueError, match="`keys` must have shape .* with U=4 as in `query`"):
        kernels.additive_attention(query[..., :4], keys, v, memory)
    with pytest.raises(ValueError, match="`memory` must have shape .* with S=11"):
        kernels.additive_attention(query, keys, v, memory[:, :4])
    with pytest.raises(ValueError, match=r"`mask` must broadcast to \[B, T, S\]"):
        kernels.additive_attention(query, keys, v, memory, mask=np.ones((T, T), bool))


@pytest.mark.tensorflow  # gradient tape of TensorFlow
class TestGradients:
    """The recomputed gradients are those of the formula, in the three modes of TensorFlow."""

    @staticmethod
    def gradients(function, arrays, jit_compile=None):
        import tensorflow as tf

        def compute(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                loss = tf.reduce_sum(tf.sin(3 * function(*tensors)))
            return [loss, *tape.gradient(loss, tensors)]

        compute = compute if jit_compile is None else tf.function(compute, jit_compile=jit_compile)
        return [tensor.numpy() for tensor in compute(*(tf.constant(array) for array in arrays))]

    @pytest.mark.parametrize("mode", [None, False, True], ids=["eager", "graph", "xla"])
    def test_of_whole_sequences(self, mode, arrays):
        def plain(query, keys, v, memory):
            scores = ops.sum(ops.tanh(query[:, :, None] + keys[:, None]) * v, axis=-1)
            visible = np.tri(T, S, S - T, dtype=bool)
            return ops.einsum("bts,bsm->btm", kernels.masked_softmax(scores, visible), memory)

        def ours(*tensors):
            return kernels.additive_attention(*tensors, mask=masks.Causal())

        wanted = self.gradients(plain, arrays)
        for one, two in zip(self.gradients(ours, arrays, mode), wanted, strict=True):
            np.testing.assert_allclose(one, two, atol=2e-5, rtol=2e-5)

    def test_of_one_query(self, arrays):
        arrays = [arrays[0][:, 0], *arrays[1:3]]
        wanted = self.gradients(lambda q, k, v: ops.sum(ops.tanh(q[:, None] + k) * v, axis=-1), arrays)
        for one, two in zip(self.gradients(kernels.additive_scores, arrays), wanted, strict=True):
            np.testing.assert_allclose(one, two, atol=2e-5, rtol=2e-5)
