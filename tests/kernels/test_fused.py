"""The backend's own kernel: which masks become its options, and that these hide exactly what the masks hide."""

import types

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import kernels, masks
from keras_attn.kernels import fused
from tests import oracle

BACKEND = keras.config.backend()
needs_jax = pytest.mark.skipif(BACKEND != "jax", reason="only JAX's kernel takes windows and lengths")
LENGTH = 13
PREFIX = np.arange(LENGTH) < np.array([[11], [13], [1]])
HOLES = np.arange(LENGTH) % np.array([[3], [LENGTH + 1], [2]]) != 0
SOME = np.array([[True] * 7, [False] * 7, [True] * 5 + [False] * 2])


@pytest.fixture
def calls(monkeypatch):
    """Acts as if there were a GPU with cuDNN, runs XLA's implementation instead, and records the arguments."""
    import jax

    attend, recorded = jax.nn.dot_product_attention, []

    def record(*heads, **named):
        if named.get("implementation") == "cudnn":
            assert all(each.shape[1] % 2 == 0 for each in heads), "cuDNN has no gradient for odd lengths"
        recorded.append({name: value for name, value in named.items() if value is not None})
        return attend(*heads, **{**named, "implementation": "xla"})

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    device = types.SimpleNamespace(compute_capability="9.0")
    monkeypatch.setattr(jax, "local_devices", lambda backend: [device])
    monkeypatch.setattr(jax.nn, "dot_product_attention", record)
    return recorded


def heads(rng, target=LENGTH, source=LENGTH, groups=2):
    """Queries of four heads of 8, keys and values, in bfloat16: what cuDNN takes."""
    shapes = ((3, 4, target, 8), (3, 4 // groups, source, 8), (3, 4 // groups, source, 8))
    return [ops.cast(rng.normal(size=shape), "bfloat16") for shape in shapes]


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


def padding(query_mask, key_mask=None):
    return masks.Padding(query_mask, query_mask if key_mask is None else key_mask)


OPTIONS = {
    "causal": (masks.Causal(), {"is_causal": True}),
    "window": (masks.Causal() & masks.Window(4), {"is_causal": True, "local_window_size": (3, 0)}),
    "left window": (masks.Window(5, 1), {"is_causal": True, "local_window_size": (4, 0)}),
    "two windows": (
        masks.Window(5, 2) & (masks.Window(3) & masks.Causal()),
        {"is_causal": True, "local_window_size": (2, 0)},
    ),
    "wide window": (masks.Window(LENGTH) & masks.Causal(), {"is_causal": True}),
    "prefix": (padding(PREFIX), {"lengths": ([11, 13, 1], [11, 13, 1])}),
    "holes": (padding(HOLES), {"lengths": ([8, 12, 6], [8, 12, 6])}),
    "no real position": (padding(PREFIX & [[False], [True], [True]]), {"lengths": ([1, 13, 1], [1, 13, 1])}),
    "keys": (masks.Padding(None, HOLES), {"lengths": (None, [8, 12, 6])}),
    "queries": (masks.Padding(HOLES, None), {"lengths": ([8, 12, 6], [LENGTH] * 3)}),
    "causal, holes": (masks.Causal() & padding(HOLES), {"is_causal": True, "lengths": ([8, 12, 6], [8, 12, 6])}),
    "padding of one row": (padding(HOLES[:1]), {"lengths": ([8, 8, 8], [8, 8, 8])}),
}


@needs_jax
@pytest.mark.parametrize(("name", "groups"), [*((name, 2) for name in OPTIONS), ("causal, holes", 1), ("keys", 4)])
def test_options_replace_masks(name, groups, calls, rng):
    """And the numbers stay: against the oracle, and gradients against those of the dense kernel."""
    import jax

    mask, wanted = OPTIONS[name]
    query, key, value = heads(rng, groups=groups)
    upstream = ops.cast(rng.normal(size=(3, 4, LENGTH, 8)), "bfloat16")
    found = {}
    for kernel in ("fused", "dense"):
        outputs, gradient = jax.vjp(
            jax.jit(lambda *heads, kernel=kernel: kernels.attention(*heads, mask=mask, kernel=kernel)),
            query,
            key,
            value,
        )
        found[kernel] = [numpy(tensor) for tensor in (outputs, *gradient(upstream))]
    (passed,) = calls
    lengths = [passed.pop(f"{kind}_seq_lengths", None) for kind in ("query", "key_value")]
    assert passed.pop("implementation") == "cudnn"
    assert passed.pop("scale") == 8**-0.5
    assert {"is_causal": False, **passed} == {"is_causal": False, **{k: v for k, v in wanted.items() if k != "lengths"}}
    assert [each is None for each in lengths] == [each is None for each in wanted.get("lengths", (None, None))]
    index = np.arange(LENGTH)
    grid = masks.Grid(index[:, None], index)
    visible = np.broadcast_to(ops.convert_to_numpy(mask.visible(grid)), (3, 1, LENGTH, LENGTH))
    exact, _ = oracle.attention(numpy(query), numpy(key), numpy(value), visible)
    np.testing.assert_allclose(found["fused"][0], exact, atol=3e-2)
    for one, two in zip(found["fused"], found["dense"], strict=True):
        assert np.all(np.isfinite(one))
        np.testing.assert_allclose(one, two, atol=6e-2)
    empty = np.broadcast_to(~visible.any(-1), (3, 4, LENGTH))
    for tensor in found["fused"][:2]:  # outputs and gradients of the queries
        np.testing.assert_array_equal(tensor[empty], 0)
    hidden = np.broadcast_to(~visible.any(-2), (3, 4 // groups, LENGTH))
    for tensor in found["fused"][2:]:
        np.testing.assert_array_equal(tensor[hidden], 0)


@needs_jax
def test_lengths_are_those_of_the_rows(calls, rng):
    mask = masks.Padding(SOME, HOLES)
    outputs = kernels.attention(*heads(rng, target=7), mask=mask, kernel="fused")
    (passed,) = calls
    np.testing.assert_array_equal(passed["query_seq_lengths"], [7, 1, 5])
    np.testing.assert_array_equal(passed["key_value_seq_lengths"], [8, 12, 6])
    np.testing.assert_array_equal(numpy(outputs)[np.broadcast_to(~SOME[:, None], (3, 4, 7))], 0)


@needs_jax
def test_real_positions_come_first_in_their_order():
    from keras_attn.backend import jax as adapter

    mask = np.array([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    order = adapter.RealFirst.of(mask, np.zeros((3, 5, 1, 1)))
    np.testing.assert_array_equal(order.places, [[1, 2, 4, 0, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(
        np.take_along_axis(np.asarray(order.places), np.asarray(order.back), 1), [range(5)] * 3
    )
    np.testing.assert_array_equal(order.lengths, [3, 5, 1])


@needs_jax
def test_garbage_in_padding_stays_there(calls, rng):
    """The kernel need not write its outputs and gradients behind the lengths: here it writes NaN, and reads NaN."""
    import jax

    plain = jax.nn.dot_product_attention

    def poison(outputs, lengths):
        places = np.arange(outputs.shape[1])[:, None, None]
        return jax.numpy.where(places < lengths[:, None, None, None], outputs, np.nan)

    @jax.custom_vjp
    def attend(query, key, value, lengths):
        named = {"query_seq_lengths": lengths, "key_value_seq_lengths": lengths}
        return poison(plain(query, key, value, **named), lengths)

    def backward(kept, upstream):
        *tensors, lengths = kept
        _, gradient = jax.vjp(lambda *tensors: attend.fun(*tensors, lengths), *tensors)
        gradients = [jax.numpy.nan_to_num(each) for each in gradient(jax.numpy.nan_to_num(upstream))]
        return (*(poison(each, lengths) for each in gradients), None)

    attend.defvjp(lambda *tensors: (attend(*tensors), tensors), backward)
    jax.nn.dot_product_attention = lambda *heads, query_seq_lengths, **named: attend(*heads, query_seq_lengths)
    hidden = np.broadcast_to(~HOLES[:, None], (3, 4, LENGTH))
    tensors = [jax.numpy.where(hidden[..., None], np.nan, each) for each in heads(rng, groups=1)]
    outputs, gradient = jax.vjp(lambda *heads: kernels.attention(*heads, mask=padding(HOLES), kernel="fused"), *tensors)
    for tensor in (outputs, *gradient(jax.numpy.ones_like(outputs))):
        assert np.all(np.isfinite(numpy(tensor)))
        np.testing.assert_array_equal(numpy(tensor)[hidden], 0)


@needs_jax
def test_the_layer_takes_the_fused_kernel_with_its_padding(calls, rng):
    """As Keras passes it, under jit; with a mixed policy, since cuDNN takes no float32."""
    import jax

    layer = ka.MultiHeadSelfAttention(2, mask=masks.Causal(), dtype="mixed_bfloat16")
    x = rng.normal(size=(3, LENGTH, 16)).astype("float32")
    layer.build(x.shape)
    outputs = numpy(jax.jit(lambda x, mask: layer(x, mask=mask))(x, HOLES))
    assert [(each["is_causal"], each["implementation"]) for each in calls] == [(True, "cudnn")]
    dense = ka.MultiHeadSelfAttention.from_config({**layer.get_config(), "kernel": "dense"})
    dense.build(x.shape)
    dense.set_weights(layer.get_weights())
    np.testing.assert_allclose(outputs, numpy(dense(x, mask=HOLES)), atol=5e-2)


@needs_jax
def test_a_scale_may_be_a_tensor(calls, rng):
    query, key, value = heads(rng)
    one, two = (kernels.attention(query, key, value, scale=scale, kernel="fused") for scale in (0.5, ops.array(0.5)))
    assert [each["scale"] for each in calls] == [0.5, 1.0]
    np.testing.assert_allclose(numpy(one), numpy(two), atol=2e-2)


NO_OPTIONS = {
    "two-sided window": masks.Window(3),
    "right window": masks.Causal() & masks.Window(4) & masks.Blocks(5),
    "or": masks.Causal() | masks.Window(3),
    "not": ~masks.Causal(),
    "window and padding": masks.Causal() & masks.Window(4) & padding(HOLES),
    "causal, another padding": masks.Causal() & padding(HOLES, HOLES.copy()),
    "causal, keys": masks.Causal() & masks.Padding(None, HOLES),
    "two paddings": padding(HOLES) & padding(PREFIX),
    "segments": masks.Causal() & masks.Segments(PREFIX * 1, PREFIX * 1),
    "lengths of a cache": masks.Causal() & masks.KeyLength([3, 7, 11]),
    "explicit": masks.Explicit(HOLES[:, None, None]),
}


@needs_jax
@pytest.mark.parametrize("name", NO_OPTIONS)
def test_what_options_do_not_express_stays_a_mask(name, calls, rng):
    query, key, value = heads(rng)
    assert fused.fused_options(query, key, NO_OPTIONS[name], None, True) is None
    one, two = (
        kernels.attention(query, key, value, mask=NO_OPTIONS[name], kernel=kernel) for kernel in ("fused", "dense")
    )
    np.testing.assert_allclose(numpy(one), numpy(two), atol=3e-2)
    assert [set(each) & {"local_window_size", "query_seq_lengths", "key_value_seq_lengths"} for each in calls] == [
        set()
    ]
    assert calls[0]["is_causal"] is False


@needs_jax
def test_an_odd_length_without_a_mask(calls, rng):
    """The position that is added to the keys is hidden by their length."""
    query, key, value = heads(rng)
    one, two = (kernels.attention(query, key, value, kernel=kernel) for kernel in ("fused", "dense"))
    np.testing.assert_allclose(numpy(one), numpy(two), atol=3e-2)
    np.testing.assert_array_equal(calls[0]["key_value_seq_lengths"], [LENGTH] * 3)
    kernels.attention(query[:, :, 1:], key[:, :, 1:], value[:, :, 1:], kernel="fused")
    assert "key_value_seq_lengths" not in calls[1]


@needs_jax
@pytest.mark.parametrize("options", [{"bias": np.zeros((LENGTH, LENGTH), "float32")}, {"query_offset": 0}])
def test_other_options_keep_the_mask(options, calls, rng):
    kernels.attention(*heads(rng), mask=masks.Causal(), kernel="fused", **options)
    assert calls[0]["is_causal"] is False
    assert "mask" in calls[0]


@needs_jax
def test_causal_with_fewer_queries_than_keys_stays_a_mask(calls, rng):
    """The kernel aligns at the top left, we at the bottom right."""
    tensors = heads(rng, target=7)
    one, two = (kernels.attention(*tensors, mask=masks.Causal(), kernel=kernel) for kernel in ("fused", "dense"))
    np.testing.assert_allclose(numpy(one), numpy(two), atol=3e-2)
    assert calls[0]["is_causal"] is False


@needs_jax
def test_long_masked_calls_take_the_fused_kernel_on_a_gpu(calls, monkeypatch):
    """Its memory is linear if options express the mask; otherwise the blockwise kernel is chosen."""
    chosen = []

    def choose(*arguments):
        chosen.append(arguments[6])  # whether the fused kernel's memory is linear
        return "dense"

    monkeypatch.setattr(kernels.dispatch, "choose_kernel", choose)
    tensors = [ops.zeros((3, 2, LENGTH, 8), "bfloat16")] * 3
    for mask in (None, OPTIONS["window"][0], OPTIONS["causal, holes"][0], NO_OPTIONS["window and padding"]):
        kernels.attention(*tensors, mask=mask)
    assert chosen == [True, True, True, False]


@pytest.mark.parametrize("mask", [masks.Causal() & masks.Window(4), padding(HOLES), masks.Causal() & padding(HOLES)])
def test_kernels_without_such_options_get_masks(mask, rng):
    """On a CPU, and on the other backends."""
    query, key, _ = heads(rng)
    assert fused.fused_options(query, key, mask, None, True) is None
    assert fused.fused_options(query, key, masks.Causal(), None, True) == (True, None, None, None)
