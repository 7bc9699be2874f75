"""`kernels.attention`: every option against the oracle, on random shapes; and the errors for bad input."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_attn import kernels, masks
from tests import oracle

PRECISION = {"float32": 2e-6, "bfloat16": 2e-2, "float16": 3e-3}


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


def heads(rng, *shape, dtype="float32"):
    return ops.cast(rng.normal(size=shape), dtype)


@st.composite
def problems(draw):
    """Random sizes, options and a seed."""
    sizes = {axis: draw(st.integers(1, 5), label=axis) for axis in "BTSK"}
    sizes["G"] = draw(st.integers(1, 3))
    sizes["H"] = sizes["G"] * draw(st.integers(1, 3))
    options = {
        "mask": draw(st.sampled_from([None, "full", "heads", "keys", "empty"])),
        "bias": draw(st.booleans()),
        "softcap": draw(st.sampled_from([None, 1.5])),
        "scale": draw(st.sampled_from([None, 0.7])),
        "causal": draw(st.booleans()),
    }
    return sizes, options, draw(st.integers(0, 2**16)), draw(st.sampled_from(sorted(PRECISION)))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_dense_equals_the_oracle(problem):
    sizes, options, seed, dtype = problem
    rng = np.random.default_rng(seed)
    b, t, s, k, g, h = (sizes[axis] for axis in "BTSKGH")
    query, key, value = heads(rng, b, h, t, k, dtype=dtype), *(heads(rng, b, g, s, n, dtype=dtype) for n in (k, 3))
    shapes = {"full": (b, h, t, s), "heads": (b, t, s), "keys": (b, 1, 1, s), "empty": (b, 1, t, 1)}
    tensor = rng.random(shapes[options["mask"]]) < 0.6 if options["mask"] else None
    bias = rng.normal(size=(1, h, t, s)) if options["bias"] else None
    visible = np.ones((b, 1, t, s), bool)
    if tensor is not None:
        visible = visible & (tensor[:, None] if tensor.ndim == 3 else tensor)
    if options["causal"]:
        visible = visible & (np.arange(s) <= np.arange(t)[:, None] + s - t)
    mask = None if tensor is None else masks.Explicit(ops.convert_to_tensor(tensor))
    mask = masks.combine(mask, masks.Causal() if options["causal"] else None)
    named = {"scale": options["scale"], "softcap": options["softcap"]}
    outputs, scores = kernels.attention(query, key, value, mask=mask, bias=bias, return_scores=True, **named)
    wanted = oracle.attention(numpy(query), numpy(key), numpy(value), visible, bias, **named)
    tolerance = PRECISION[dtype]
    np.testing.assert_allclose(numpy(outputs), wanted[0], atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(numpy(scores), wanted[1], atol=tolerance, rtol=tolerance)
    empty = ~np.broadcast_to(visible, wanted[1].shape).any(-1)
    assert np.all(numpy(outputs)[empty] == 0)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype


def test_by_hand():
    """Two keys, the second twice as likely: scores 1/3 and 2/3."""
    query = np.array([[[[1.0]]]], "float32")
    key = np.array([[[[0.0], [np.log(2.0)]]]], "float32")
    value = np.array([[[[3.0], [6.0]]]], "float32")
    outputs, scores = kernels.attention(query, key, value, scale=1.0, return_scores=True)
    np.testing.assert_allclose(numpy(scores)[0, 0, 0], [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(numpy(outputs), [[[[5.0]]]], rtol=1e-6)


def test_causal_is_aligned_at_the_bottom_right(rng):
    _, scores = kernels.attention(
        heads(rng, 1, 1, 2, 3), heads(rng, 1, 1, 5, 3), heads(rng, 1, 1, 5, 3), mask=masks.Causal(), return_scores=True
    )
    np.testing.assert_array_equal(numpy(scores)[0, 0] > 0, [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    _, scores = kernels.attention(
        heads(rng, 1, 1, 3, 3), heads(rng, 1, 1, 2, 3), heads(rng, 1, 1, 2, 3), mask=masks.Causal(), return_scores=True
    )
    np.testing.assert_array_equal(numpy(scores)[0, 0] > 0, [[0, 0], [1, 0], [1, 1]])


@pytest.mark.parametrize("offset", [1, [1, 3]])
def test_query_offset_and_key_length(rng, offset):
    """Steps into a fixed-size cache: each row equals attention to only its keys in use."""
    query, key, value = (heads(rng, 2, 3, length, 5) for length in (2, 7, 7))
    lengths, offsets = [3, 5], np.broadcast_to(offset, 2)
    named = {"query_offset": offset, "key_length": lengths, "mask": masks.Causal()}
    outputs = numpy(kernels.attention(query, key, value, **named))
    for row in range(2):
        visible = (np.arange(7) <= np.arange(2)[:, None] + offsets[row]) & (np.arange(7) < lengths[row])
        wanted, _ = oracle.attention(*(numpy(x)[row : row + 1] for x in (query, key, value)), visible)
        np.testing.assert_allclose(outputs[row : row + 1], wanted, atol=2e-6)


def test_without_an_offset_the_last_query_has_the_index_of_the_last_key_in_use(rng):
    query, key, value = (heads(rng, 2, 3, length, 5) for length in (1, 7, 7))
    outputs = numpy(kernels.attention(query, key, value, mask=masks.Causal(), key_length=[3, 6]))
    for row, length in enumerate([3, 6]):
        wanted, _ = oracle.attention(*(numpy(x)[row : row + 1] for x in (query, key, value)), np.arange(7) < length)
        np.testing.assert_allclose(outputs[row : row + 1], wanted, atol=2e-6)


def test_minus_infinity_in_the_bias_hides(rng):
    query, key, value = (heads(rng, 1, 1, 2, 3) for _ in range(3))
    bias = np.array([[0, -np.inf], [-np.inf, -np.inf]], "float32")
    outputs, scores = kernels.attention(query, key, value, bias=bias, return_scores=True)
    np.testing.assert_array_equal(numpy(scores)[0, 0], [[1, 0], [0, 0]])
    np.testing.assert_array_equal(numpy(outputs)[0, 0, 1], 0)


def test_large_scores_do_not_overflow(rng):
    query, key = ops.cast(rng.normal(size=(1, 1, 3, 4)) * 60, "float16"), heads(rng, 1, 1, 3, 4, dtype="float16")
    assert np.all(np.isfinite(numpy(kernels.attention(query, key, key, mask=masks.Causal()))))
    query = ops.cast(rng.normal(size=(1, 1, 3, 4)) * 1e18, "float32")
    assert np.all(np.isfinite(numpy(kernels.attention(query, query, query, mask=masks.Causal()))))


@pytest.mark.parametrize("kernel", ["dense", "blockwise"])
def test_products_beyond_float16_are_held(kernel):
    heads = ops.full((1, 1, 3, 64), 100.0, "float16")
    outputs = kernels.attention(heads, heads, heads, kernel=kernel)
    np.testing.assert_allclose(numpy(outputs), 100, rtol=1e-3)


def test_dropout_keeps_the_mean_and_the_zeros(rng):
    query, key = heads(rng, 1, 1, 400, 4), heads(rng, 1, 1, 50, 4)
    value = ops.ones((1, 1, 50, 2))
    mask = np.arange(50) < 40
    outputs, scores = kernels.attention(query, key, value, mask=mask, dropout=0.3, seed=1, return_scores=True)
    np.testing.assert_allclose(numpy(scores).sum(-1), 1, atol=1e-5)
    assert abs(numpy(outputs).mean() - 1) < 0.02
    assert numpy(outputs).std() > 0.05
    again = kernels.attention(query, key, value, mask=mask, dropout=0.3, seed=1)
    np.testing.assert_array_equal(numpy(outputs), numpy(again))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": (2, 4, 5)}, r"`query` must have 4 axes, \[B, H, T, K\]. Received: query.shape=\(2, 4, 5\)"),
        ({"key": (2, 2, 7, 9)}, r"`key` must have shape .* with K=3 as in `query`"),
        ({"key": (3, 2, 7, 3)}, r"`key` must have shape .* with B=2"),
        ({"value": (2, 2, 6, 3)}, r"`value` must have shape .* with S=7 as in `key`"),
        ({"key": (2, 3, 7, 3), "value": (2, 3, 7, 3)}, "a multiple of those of `key`"),
    ],
)
def test_shapes_that_do_not_match_raise(changes, message):
    shapes = {"query": (2, 4, 5, 3), "key": (2, 2, 7, 3), "value": (2, 2, 7, 3), **changes}
    with pytest.raises(ValueError, match=message):
        kernels.attention(*(np.zeros(shape, "float32") for shape in shapes.values()))


def test_bad_masks_biases_and_kernels_raise(rng):
    query, key, value = heads(rng, 2, 4, 5, 3), heads(rng, 2, 4, 7, 3), heads(rng, 2, 4, 7, 3)
    with pytest.raises(ValueError, match=r"`mask` must broadcast to \[B, H, T, S\] = \(2, 4, 5, 7\)"):
        kernels.attention(query, key, value, mask=np.ones((5, 6), bool))
    with pytest.raises(ValueError, match=r"`mask` must broadcast to \[B, T, S\] = \(2, 5, 7\)"):
        kernels.attention(query, key, value, mask=np.ones((4, 5, 7), bool))
    with pytest.raises(ValueError, match="`mask` must be boolean"):
        kernels.attention(query, key, value, mask=np.ones((5, 7), "float32"))
    with pytest.raises(ValueError, match=r"`bias` must broadcast to \[B, H, T, S\]"):
        kernels.attention(query, key, value, bias=np.ones((3, 5, 7), "float32"))
    with pytest.raises(ValueError, match="`key_length` must have shape .* with B=2"):
        kernels.attention(query, key, value, key_length=[1, 2, 3])
    with pytest.raises(ValueError, match="`query_offset` must have shape .* with B=2"):
        kernels.attention(query, key, value, query_offset=[1, 2, 3])
    with pytest.raises(ValueError, match="`sinks` must have shape .* with H=4"):
        kernels.attention(query, key, value, sinks=np.zeros(3, "float32"))
    with pytest.raises(ValueError, match="`kernel` must be one of .* Received: kernel='flash'"):
        kernels.attention(query, key, value, kernel="flash")
