"""The blockwise kernel: the same numbers and gradients as the oracle and the dense kernel, on tiny tiles."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_attn import MultiHeadSelfAttention, kernels, masks
from keras_attn.kernels import tiling
from tests import oracle


@pytest.fixture(autouse=True, scope="module")
def tiny_tiles():
    """Blocks of 3 queries and 4 keys, so that small shapes have many tiles, the last ones incomplete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "QUERY_BLOCK", 3)
        patch.setattr(tiling, "KEY_BLOCK", 4)
        yield


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


@st.composite
def problems(draw):
    """Random sizes and options, and arrays drawn from a seed."""
    b, t, s, k, v = (draw(st.integers(1, top), label=axis) for axis, top in zip("BTSKV", (2, 11, 11, 3, 3)))
    g = draw(st.integers(1, 2))
    h = g * draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    options = {
        "softcap": draw(st.sampled_from([None, 1.5])),
        "scale": draw(st.sampled_from([None, 0.7])),
        "bias": None,
        "sinks": rng.normal(size=h).astype("float32") if draw(st.booleans()) else None,
    }
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(1, h, t, s), (b, 1, t, 1), (s,), (b, h, 1, s)]))
        options["bias"] = np.where(rng.random(shape) < 0.1, -np.inf, rng.normal(size=shape)).astype("float32")
    parts = [
        draw(
            st.sampled_from(
                [
                    None,
                    masks.Causal(),
                    ~masks.Causal(),
                    masks.Window(2),
                    masks.Causal() | masks.Prefix(2),
                    masks.Window(2) | masks.Global([3]),
                ]
            )
        ),
        masks.Padding(rng.random((b, t)) < 0.8, rng.random((b, s)) < 0.8) if draw(st.booleans()) else None,
        masks.Segments(rng.integers(0, 3, (b, t)), rng.integers(0, 3, (b, s))) if draw(st.booleans()) else None,
        masks.Explicit(ops.convert_to_tensor(rng.random((b, t, s)) < 0.7)) if draw(st.booleans()) else None,
    ]
    arrays = [rng.normal(size=(b, *shape)).astype("float32") for shape in ((h, t, k), (g, s, k), (g, s, v))]
    return arrays, masks.combine(*parts), options


@settings(max_examples=50, deadline=None)
@given(problems())
def test_equals_the_oracle(problem):
    arrays, mask, options = problem
    grid = kernels.dispatch.whole_grid(*arrays[:2])
    visible = None if mask is None else ops.convert_to_numpy(mask.visible(grid))
    outputs = numpy(kernels.attention(*arrays, mask=mask, kernel="blockwise", **options))
    wanted, scores = oracle.attention(*arrays, visible, **options)
    np.testing.assert_allclose(outputs, wanted, atol=3e-6)
    assert np.all(outputs[scores.sum(-1) == 0] == 0)


@settings(max_examples=15, deadline=None)
@given(problems(), st.sampled_from(["bfloat16", "float16"]))
def test_low_precision_is_as_good_as_dense(problem, dtype):
    arrays, mask, options = problem
    low = [ops.cast(array, dtype) for array in arrays]
    wanted = numpy(kernels.attention(*map(numpy, low), mask=mask, kernel="dense", **options))
    errors = {}
    for kernel in ("dense", "blockwise"):
        outputs = kernels.attention(*low, mask=mask, kernel=kernel, **options)
        assert keras.backend.standardize_dtype(outputs.dtype) == dtype
        errors[kernel] = np.abs(numpy(outputs) - wanted).max()
    rounding = {"bfloat16": 2**-8, "float16": 2**-11}[dtype] * max(1, np.abs(wanted).max())
    assert errors["blockwise"] <= 2 * errors["dense"] + rounding


@pytest.mark.tensorflow  # gradient tape of TensorFlow
class TestGradients:
    """Gradients with respect to every input, in the three modes of TensorFlow."""

    @staticmethod
    def gradients(kernel, arrays, mask, jit_compile=None, **options):
        import tensorflow as tf

        names = [name for name in ("bias", "sinks") if options.get(name) is not None]

        def compute(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                named = {**options, **dict(zip(names, tensors[3:]))}
                outputs = kernels.attention(*tensors[:3], mask=mask(), kernel=kernel, **named)
                weights = tf.reshape(tf.cast(tf.range(tf.size(outputs)) % 7, outputs.dtype), tf.shape(outputs))
                loss = tf.reduce_sum(weights * tf.sin(outputs))
            return [loss, *tape.gradient(loss, tensors)]

        tensors = [tf.constant(array) for array in (*arrays, *(options[name] for name in names))]
        if jit_compile is not None:
            free = [tf.TensorSpec([None if axis in (0, 2) else n for axis, n in enumerate(t.shape)]) for t in tensors]
            compute = tf.function(compute, jit_compile=jit_compile, input_signature=None if jit_compile else free)
        return [tensor.numpy() for tensor in compute(*tensors)]

    @pytest.mark.parametrize("mode", [None, False, True], ids=["eager", "graph", "xla"])
    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_equal_the_dense_kernels(self, mode, groups, rng):
        arrays = [
            rng.normal(size=(2, h, n, x)).astype("float32") for h, n, x in ((4, 7, 5), (groups, 10, 5), (groups, 10, 3))
        ]
        key_mask = rng.random((2, 10)) < 0.8
        options = {
            "bias": rng.normal(size=(1, 4, 7, 10)).astype("float32"),
            "sinks": rng.normal(size=4).astype("float32"),
            "softcap": 1.5,
        }

        def mask():
            return masks.Causal() & masks.Padding(None, key_mask)

        wanted = self.gradients("dense", arrays, mask, **options)
        for one, two in zip(self.gradients("blockwise", arrays, mask, mode, **options), wanted, strict=True):
            np.testing.assert_allclose(one, two, atol=2e-5, rtol=2e-5)

    @pytest.mark.parametrize("mode", [None, False, True], ids=["eager", "graph", "xla"])
    @pytest.mark.parametrize("positions", [False, True], ids=["index", "positions"])
    def test_of_a_table_of_distances(self, mode, positions, rng):
        """The bias is computed per tile; the gradient of its table equals that of the dense kernel."""
        arrays = [rng.normal(size=(2, h, n, 5)).astype("float32") for h, n in ((4, 7), (2, 10), (2, 10))]
        table, buckets = rng.normal(size=(5, 4)).astype("float32"), np.array([4, 3, 2, 1, 0, 1, 2, 0, 4])
        given = [rng.integers(0, 9, (2, n)) for n in (7, 10)] if positions else [None, None]

        def gradients(kernel, mode=None):
            import tensorflow as tf

            def compute(*tensors):
                with tf.GradientTape() as tape:
                    tape.watch(tensors)
                    bias = kernels.BucketBias(*given, tensor=tensors[3], buckets=buckets)
                    outputs = kernels.attention(*tensors[:3], mask=masks.Causal(), bias=bias, kernel=kernel)
                    loss = tf.reduce_sum(tf.sin(3 * outputs))
                return [loss, *(tf.convert_to_tensor(each) for each in tape.gradient(loss, tensors))]

            compute = compute if mode is None else tf.function(compute, jit_compile=mode)
            return compute(*(tf.constant(array) for array in (*arrays, table)))

        for one, two in zip(gradients("blockwise", mode), gradients("dense"), strict=True):
            np.testing.assert_allclose(one, two, atol=2e-5, rtol=2e-5)

    @pytest.mark.parametrize("shape", [(1, 1, 7, 10), (2, 4, 1, 10), (2, 1, 7, 1), (7, 10), (10,)])
    def test_of_a_bias_are_summed_where_it_is_the_same(self, shape, rng):
        arrays = [rng.normal(size=(2, 4, n, 3)).astype("float32") for n in (7, 10, 10)]
        bias = rng.normal(size=shape).astype("float32")
        wanted = self.gradients("dense", arrays, masks.Causal, bias=bias)
        for one, two in zip(self.gradients("blockwise", arrays, masks.Causal, bias=bias), wanted, strict=True):
            np.testing.assert_allclose(one, two, atol=2e-5, rtol=2e-5)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_are_as_exact_as_the_dense_kernels(self, dtype, rng):
        """Against float64: outputs at most twice, gradients at most three times the error of the plain form."""
        arrays = [rng.normal(size=(2, 2, n, 16)) for n in (40, 50, 50)]
        arrays = [numpy(ops.cast(array, dtype)) for array in arrays]
        exact = self.gradients("dense", arrays, masks.Causal)
        low = [ops.cast(array, dtype) for array in arrays]
        errors = {}
        for kernel in ("dense", "blockwise"):
            outputs = kernels.attention(*low, mask=masks.Causal(), kernel=kernel)
            wanted = kernels.attention(*arrays, mask=masks.Causal(), kernel="dense")
            found = self.gradients(kernel, low, masks.Causal)[1:]
            pairs = [(numpy(outputs), numpy(wanted)), *zip([numpy(each) for each in found], exact[1:], strict=True)]
            errors[kernel] = [np.sqrt(np.mean((one - two) ** 2)) for one, two in pairs]
        for bound, blockwise, dense in zip((2, 3, 3, 3), errors["blockwise"], errors["dense"], strict=True):
            assert blockwise <= bound * dense

    def test_empty_rows_have_none(self, rng):
        arrays = [rng.normal(size=(2, 2, n, 3)).astype("float32") for n in (7, 10, 10)]
        query_mask = np.arange(7) != 4

        def mask():
            return masks.Padding(np.stack([query_mask] * 2), None)

        _, query_gradient, *others = self.gradients("blockwise", arrays, mask)
        np.testing.assert_array_equal(query_gradient[:, :, 4], 0)
        assert all(np.all(np.isfinite(gradient)) for gradient in others)

    def test_dropout_is_the_same_in_both_passes(self, rng):
        """With a fixed seed the loss is a smooth function, so finite differences must agree."""
        arrays = [rng.normal(size=(1, 2, n, 3)) for n in (5, 9, 9)]
        options = {"dropout": 0.4, "seed": 3}
        _, *gradients = self.gradients("blockwise", arrays, masks.Causal, **options)
        for index, gradient in enumerate(gradients):
            direction = rng.normal(size=arrays[index].shape)
            losses = []
            for sign in (1, -1):
                moved = [*arrays[:index], arrays[index] + sign * 1e-5 * direction, *arrays[index + 1 :]]
                losses.append(self.gradients("blockwise", moved, masks.Causal, **options)[0])
            np.testing.assert_allclose(np.sum(gradient * direction), (losses[0] - losses[1]) / 2e-5, rtol=1e-6)


@pytest.mark.trains
def test_a_training_step_equals_that_of_the_dense_kernel(rng):
    """On every backend: the same weights after a step of `fit`."""
    x, mask = rng.normal(size=(2, 11, 8)).astype("float32"), rng.random((2, 11)) < 0.8
    weights = {}
    for kernel in ("dense", "blockwise"):
        layer = MultiHeadSelfAttention(4, num_kv_heads=2, mask=masks.Causal(), kernel=kernel)
        inputs, padding = keras.Input((None, 8)), keras.Input((None,), dtype="bool")
        model = keras.Model([inputs, padding], layer(inputs, mask=padding))
        layer.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in layer.weights])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit([x, mask], np.roll(x, 1, axis=1), verbose=0)
        weights[kernel] = layer.get_weights()
    for one, two in zip(weights["dense"], weights["blockwise"], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_dropout_keeps_the_mean(rng):
    query, key = (rng.normal(size=(1, 2, n, 4)).astype("float32") for n in (50, 20))
    value = np.ones((1, 2, 20, 1), "float32")
    one, two, other = (
        numpy(kernels.attention(query, key, value, kernel="blockwise", dropout=0.3, seed=seed)) for seed in (1, 1, 2)
    )
    assert abs(one.mean() - 1) < 0.05
    assert one.std() > 0.05
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 0.01


def test_hidden_tiles_are_not_computed(rng, monkeypatch):
    """A window over a long sequence reads only a band of tiles: NaN outside of it has no effect."""
    key = rng.normal(size=(1, 1, 40, 3)).astype("float32")
    spoiled = np.where(np.arange(40)[:, None] < 20, np.nan, key).astype("float32")
    mask = masks.Causal() & masks.Window(3)
    outputs = numpy(kernels.attention(key[:, :, 30:], spoiled, spoiled, mask=mask, kernel="blockwise"))
    assert np.all(np.isfinite(outputs))
    np.testing.assert_allclose(
        outputs, numpy(kernels.attention(key[:, :, 30:], key, key, mask=mask, kernel="dense")), atol=1e-5
    )
