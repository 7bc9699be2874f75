"""Explicit indices of queries and keys: gaps, rotated keys, rows at different positions; every kernel and mask."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_attn import kernels, masks
from keras_attn.kernels import choice, dispatch, tiling
from tests import oracle

BACKEND = keras.config.backend()
KERNELS = ("dense", "blockwise", "fused")
B, H, T, S, K = 2, 2, 7, 11, 3
SLOPES, BUCKETS = (0.5, 0.2), np.array([4, 3, 2, 1, 0, 1, 2, 0, 4])
PATTERNS = [
    None,
    masks.Causal(),
    ~masks.Causal(),
    masks.Window(2),
    masks.Causal() & masks.Window(3),
    masks.Blocks(3),
    masks.Causal() | masks.Prefix(2),
    masks.Dilated(2),
    masks.Window(2) | masks.Global([0, 5]),
    ~masks.Prefix(3),
]


@pytest.fixture(autouse=True, scope="module")
def tiny_tiles():
    """Blocks of 3 queries and 4 keys, so that small shapes have many tiles, the last ones incomplete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "QUERY_BLOCK", 3)
        patch.setattr(tiling, "KEY_BLOCK", 4)
        yield


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


def three(rng, batch=B, length=T, source_length=S, kv_heads=H):
    shapes = ((batch, H, length, K), (batch, kv_heads, source_length, K), (batch, kv_heads, source_length, K))
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def ring(newest, size):
    """Indices `[B, size]` of a ring buffer that holds index i in place i % size; -1 where nothing was written."""
    newest = np.reshape(newest, (-1, 1))
    held = newest - (newest - np.arange(size)) % size
    return np.where(held >= 0, held, -1)


def laid(index, axis):
    """`[B, n]` or `[B, T, n]` -> `[B, 1, T, S]`, for NumPy."""
    return index[:, None, :, None] if axis == 2 else index.reshape(len(index), 1, -1, index.shape[-1])


def cells(mask, query_index, key_index, length, source_length):
    """Returns what is visible, and the distances, both `[B or 1, 1, T, S]`, in NumPy; None means aligned indices."""
    aligned = np.arange(length)[None] + source_length - length, np.arange(source_length)[None]
    query = laid(aligned[0] if query_index is None else query_index, 2)
    key = laid(aligned[1] if key_index is None else key_index, 3)
    shape = np.broadcast_shapes(query.shape, key.shape)
    visible = np.ones(shape, bool) if mask is None else np.broadcast_to(mask(query, key), shape)
    visible = visible & (True if query_index is None else query >= 0) & (True if key_index is None else key >= 0)
    return visible, key - query


def expected_bias(bias, distances, table):
    if bias == "linear":
        return -np.abs(distances) * np.reshape(SLOPES, (1, -1, 1, 1))
    if bias == "table":
        return np.moveaxis(table[BUCKETS[np.clip(distances, -4, 4) + 4]][:, 0], -1, 1)
    return None


def make_bias(bias, table):
    if bias == "linear":
        return kernels.LinearBias(slopes=SLOPES)
    return kernels.BucketBias(tensor=table, buckets=BUCKETS) if bias == "table" else None


@st.composite
def problems(draw):
    """Heads, indices of every valid shape, masks of every kind, and biases."""
    b, t, s = (draw(st.integers(1, top), label=axis) for axis, top in zip("BTS", (2, 9, 11)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))

    def drawn(shape, kind):
        rising = rng.integers(0, 6, (*shape[:-1], 1)) + np.arange(shape[-1])
        index = {
            "random": rng.integers(0, 12, shape),
            "rising": rising,
            "rotated": np.roll(rising, rng.integers(0, shape[-1]), axis=-1),
        }[kind]
        return np.where(rng.random(shape) < draw(st.sampled_from([0, 0.3, 1])), -rng.integers(1, 4, shape), index)

    kinds = st.sampled_from(["random", "rising", "rotated"])
    query_shape = draw(st.sampled_from([None, (b, t), (1, t)]))
    key_shape = draw(st.sampled_from([None, (b, s), (1, s), (b, 1, s), (b, t, s), (1, t, s)]))
    query_index = None if query_shape is None else drawn(query_shape, draw(kinds))
    key_index = None if key_shape is None else drawn(key_shape, draw(kinds))
    pattern = draw(st.sampled_from(PATTERNS))
    visible, distances = cells(pattern, query_index, key_index, t, s)
    mask = pattern
    if draw(st.booleans()):
        query_mask, key_mask = rng.random((b, t)) < 0.8, rng.random((b, s)) < 0.8
        mask = masks.combine(mask, masks.Padding(query_mask, key_mask))
        visible = visible & query_mask[:, None, :, None] & key_mask[:, None, None]
    if draw(st.booleans()):
        query_ids, key_ids = rng.integers(0, 3, (b, t)), rng.integers(0, 3, (b, s))
        mask = masks.combine(mask, masks.Segments(query_ids, key_ids))
        visible = visible & (query_ids[:, None, :, None] == key_ids[:, None, None]) & (key_ids != 0)[:, None, None]
    if draw(st.booleans()):
        tensor = rng.random((b, 1, t, s)) < 0.7
        mask = masks.combine(mask, masks.Explicit(ops.convert_to_tensor(tensor)))
        visible = visible & tensor
    bias, table = draw(st.sampled_from([None, "linear", "table"])), rng.normal(size=(5, H)).astype("float32")
    sinks = rng.normal(size=H).astype("float32") if draw(st.booleans()) else None
    options = {"query_index": query_index, "key_index": key_index, "mask": mask, "bias": make_bias(bias, table)}
    added = expected_bias(bias, distances, table)
    arrays = three(rng, b, t, s, draw(st.sampled_from([1, H])))
    return arrays, {**options, "sinks": sinks}, visible, added


@settings(max_examples=60 if BACKEND == "tensorflow" else 25, deadline=None)  # JAX compiles each shape anew
@given(problems(), st.sampled_from(KERNELS))
def test_equals_the_oracle(problem, kernel):
    arrays, options, visible, added = problem
    wanted, wanted_scores = oracle.attention(*arrays, visible, added, sinks=options["sinks"])
    outputs = numpy(kernels.attention(*arrays, kernel=kernel, **options))
    np.testing.assert_allclose(outputs, wanted, atol=3e-6)
    empty = ~np.broadcast_to(visible, wanted_scores.shape).any(-1)
    np.testing.assert_array_equal(outputs[empty], 0)
    if kernel == "dense":
        outputs, scores = kernels.attention(*arrays, return_scores=True, **options)
        np.testing.assert_allclose(numpy(scores), wanted_scores, atol=3e-6)
        np.testing.assert_array_equal(numpy(scores)[~np.broadcast_to(visible, wanted_scores.shape)], 0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mask", [None, masks.Causal(), ~masks.Causal(), masks.Window(2)], ids=repr)
def test_aligned_indices_equal_the_default(mask, kernel, rng):
    arrays = three(rng)
    given = {"query_index": np.arange(S - T, S)[None], "key_index": np.arange(S)[None]}
    wanted = numpy(kernels.attention(*arrays, mask=mask, kernel=kernel))
    for names in (["query_index"], ["key_index"], ["query_index", "key_index"]):
        options = {name: given[name] for name in names}
        outputs = kernels.attention(*arrays, mask=mask, kernel=kernel, **options)
        np.testing.assert_allclose(numpy(outputs), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_ring_of_keys_reads_as_the_sequence_in_order(kernel, rng):
    """A window of 5 over 20 positions, the last 7 of them in a ring; one row is ahead of the other."""
    newest, mask = np.array([19, 3]), masks.Causal() & masks.Window(5)
    query, key, value = three(rng, length=20, source_length=20)
    whole = numpy(kernels.attention(query, key, value, mask=mask, kernel="dense"))
    held = ring(newest, 7)
    places = np.maximum(held, 0)[:, None, :, None]
    now = np.take_along_axis(query, newest[:, None, None, None], axis=2)
    keys, values = (
        np.where(held[:, None, :, None] < 0, 0, np.take_along_axis(x, places, axis=2)) for x in (key, value)
    )
    options = {"query_index": newest[:, None], "key_index": held, "mask": mask, "kernel": kernel}
    outputs = numpy(kernels.attention(now, keys, values, **options))
    np.testing.assert_allclose(outputs[:, :, 0], [whole[row, :, place] for row, place in enumerate(newest)], atol=2e-6)


def test_without_query_index_all_queries_are_present_even_before_the_first_key(rng):
    arrays = three(rng, length=5, source_length=3)
    key_index = np.array([[0, -1, 2]])
    for kernel in KERNELS:
        outputs = numpy(kernels.attention(*arrays, key_index=key_index, kernel=kernel))
        np.testing.assert_allclose(outputs, oracle.attention(*arrays, key_index >= 0)[0], atol=2e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sizes", [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_empty_axes(kernel, sizes, rng):
    batch, target, source = sizes
    index = {"query_index": np.zeros((batch, target), "int32"), "key_index": np.zeros((batch, source), "int32")}
    outputs = numpy(kernels.attention(*three(rng, *sizes), mask=masks.Causal(), kernel=kernel, **index))
    np.testing.assert_array_equal(outputs, np.zeros((batch, H, target, K)) if source == 0 else outputs)
    assert outputs.shape == (batch, H, target, K)


def gradients(function, arrays):
    """Gradients of a function's weighted sum with respect to its arguments."""

    def loss(*tensors):
        outputs = function(*tensors)
        weights = np.arange(np.prod(outputs.shape)).reshape(outputs.shape) % 7 - 3
        return ops.sum(outputs * ops.convert_to_tensor(weights, dtype=outputs.dtype))

    if BACKEND == "jax":
        import jax

        return [np.asarray(each) for each in jax.grad(loss, tuple(range(len(arrays))))(*map(jax.numpy.asarray, arrays))]
    if BACKEND == "torch":
        import torch

        with torch.enable_grad():
            tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
            return [each.numpy() for each in torch.autograd.grad(loss(*tensors), tensors)]
    import tensorflow as tf

    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        total = loss(*tensors)
    return [tf.convert_to_tensor(each).numpy() for each in tape.gradient(total, tensors)]  # of a table in slices


def expected_gradients(query, key, value, visible, added, distances, rows):
    """With respect to query, key, value and table, in float64, from the scores of the oracle."""
    outputs, scores = oracle.attention(query, key, value, visible, added)
    upstream = np.arange(outputs.size).reshape(outputs.shape) % 7 - 3.0
    by_scores = np.einsum("bhtk,bhsk->bhts", upstream, value)
    by_logits = scores * (by_scores - np.sum(by_scores * scores, axis=-1, keepdims=True))
    table = np.zeros((rows, H))
    places = np.broadcast_to(BUCKETS[np.clip(distances, -4, 4) + 4], (len(query), 1, *scores.shape[2:]))[:, 0]
    np.add.at(table, places, np.moveaxis(by_logits, 1, -1))
    return [
        np.einsum("bhts,bhsk->bhtk", by_logits, key) * K**-0.5,
        np.einsum("bhts,bhtk->bhsk", by_logits, query) * K**-0.5,
        np.einsum("bhts,bhtk->bhsk", scores, upstream),
        table,
    ]


@pytest.mark.trains
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mask", [None, masks.Causal(), ~masks.Causal(), masks.Causal() & masks.Window(4)], ids=repr)
@pytest.mark.parametrize("per_query", [False, True], ids=["keys", "keys of each query"])
def test_gradients(per_query, mask, kernel, rng):
    arrays, table = three(rng), rng.normal(size=(5, H)).astype("float32")
    query_index = np.array([[3, 4, 5, 6, 7, -1, -1], [-2, 0, 1, 2, 9, 10, 11]])
    key_index = ring([7, 13], S)
    key_index[1, 4] = -1
    if per_query:
        key_index = np.where(rng.random((B, T, S)) < 0.2, -1, key_index[:, None])
    visible, distances = cells(mask, query_index, key_index, T, S)
    wanted = expected_gradients(*arrays, visible, expected_bias("table", distances, table), distances, len(table))

    def attend(query, key, value, table):
        options = {"query_index": query_index, "key_index": key_index, "mask": mask, "kernel": kernel}
        return kernels.attention(query, key, value, bias=make_bias("table", table), **options)

    found = gradients(attend, [*arrays, table])
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, two, atol=3e-5)
    by_query, by_key, by_value, _ = found
    np.testing.assert_array_equal(by_query[np.broadcast_to(~visible.any(-1), by_query.shape[:-1])], 0)
    for each in (by_key, by_value):
        np.testing.assert_array_equal(each[np.broadcast_to(~visible.any(-2), each.shape[:-1])], 0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="graphs of TensorFlow")
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("kernel", ["dense", "blockwise"])
def test_in_graphs_with_free_lengths(kernel, jit_compile, rng):
    import tensorflow as tf

    arrays, mask = three(rng), masks.Causal() & masks.Window(4)
    query_index = np.array([[3, 4, 5, 6, 7, -1, -1], [-2, 0, 1, 2, 9, 10, 11]], "int32")
    keys = ring([7, 13], S).astype("int32")[:, None]

    def attend(query, key, value, query_index, key_index):
        with tf.GradientTape() as tape:
            tape.watch([query, key, value])
            options = {"query_index": query_index, "key_index": key_index, "mask": mask, "kernel": kernel}
            outputs = kernels.attention(query, key, value, **options)
            loss = tf.reduce_sum(tf.sin(outputs))
        return outputs, tape.gradient(loss, [query, key, value])

    signature = [tf.TensorSpec((None, H, None, K))] * 3
    signature += [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None, None), tf.int32)]
    compiled = tf.function(attend, input_signature=signature, jit_compile=jit_compile)
    for key_index in (keys, np.repeat(keys, T, axis=1)):
        tensors = [*map(tf.constant, arrays), query_index, key_index]
        outputs, found = compiled(*tensors)
        visible, _ = cells(mask, query_index, key_index, T, S)
        np.testing.assert_allclose(outputs, oracle.attention(*arrays, visible)[0], atol=3e-6)
        for one, two in zip(found, attend(*tensors)[1], strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)


def tiles_seen(mask, query_index=None, key_index=None):
    """Which tiles of 20 queries and 20 keys are computed, cut as in `kernels.attention`."""
    query = key = np.zeros((B, 1, 20, K), "float32")
    grid = dispatch.whole_grid(query, key, None, None, *dispatch.check_indices(query, key, query_index, key_index))
    cut = tiling.Tiling.of(mask, grid, query, key)
    return [
        ops.convert_to_numpy(ops.broadcast_to(cut.coverage(row)[0], (cut.num_columns,))) for row in range(cut.num_rows)
    ]


@pytest.mark.parametrize("mask", [None, masks.Causal(), masks.Causal() & masks.Window(3), masks.Blocks(5)], ids=repr)
def test_a_sequence_with_indices_skips_the_same_tiles_as_without(mask):
    index = np.arange(20)[None]
    wanted = tiles_seen(mask)
    np.testing.assert_array_equal(tiles_seen(mask, index, index), wanted)
    assert mask is None or not np.all(wanted)


def test_tiles_without_global_positions_are_skipped():
    """Blocks of 3 queries against blocks of 4 keys; query 8 and key 8 are global."""
    seen = np.array(tiles_seen(masks.Causal() & (masks.Window(2) | masks.Global([8]))))
    np.testing.assert_array_equal(
        seen,
        [
            [True, False, False, False, False],
            [True, True, False, False, False],
            [True, True, True, False, False],  # query 8 sees keys 0 ... 8
            [False, False, True, False, False],
            [False, False, True, True, False],  # key 8, and the window 11 ... 14
            [False, False, True, True, True],
            [False, False, True, False, True],
        ],
    )


def test_hidden_tiles_of_rotated_and_of_absent_keys_are_skipped():
    """Blocks of 3 queries against blocks of 4 keys."""
    query_index = np.where(np.arange(20) < 15, np.arange(20) + 100, -1)[None]  # the last two blocks are absent
    key_index = np.roll(np.arange(95, 115), 8)[None].copy()  # places 0 ... 7 hold 107 ... 114
    key_index[0, 16:] = -1  # indices 103 ... 106
    seen = np.array(tiles_seen(masks.Causal(), query_index, key_index))
    np.testing.assert_array_equal(
        seen,
        [
            [False, False, True, True, False],  # 100 ... 102: keys 95 ... 98 and 99 ... 102
            [False, False, True, True, False],
            [True, False, True, True, False],  # 106 ... 108: 107 ... 110 too
            [True, True, True, True, False],
            [True, True, True, True, False],
            [False] * 5,
            [False] * 5,
        ],
    )


def test_absent_keys_are_not_read(rng):
    """NaN in a block of keys has no effect if none of them is present."""
    query, key, _ = three(rng, source_length=12)
    spoiled = np.where(np.arange(12)[:, None] < 8, key, np.nan).astype("float32")
    key_index = np.where(np.arange(12) < 8, np.arange(12), -1)[None]
    outputs = numpy(kernels.attention(query, spoiled, spoiled, key_index=key_index, kernel="blockwise"))
    np.testing.assert_allclose(outputs, oracle.attention(query, key, key, np.arange(12) < 8)[0], atol=2e-6)


def test_which_kernel_runs(rng, monkeypatch):
    """Far keys count as hidden if a mask hides them from aligned queries, or if a sequence attends to itself."""
    names, choose = [], dispatch.choose_kernel
    for mode in choice.BLOCKWISE_FROM["cpu"]:
        monkeypatch.setitem(choice.BLOCKWISE_FROM["cpu"], mode, {"far hidden": 64, "all": 256})
        monkeypatch.setitem(choice.FUSED_FROM["cpu"], mode, {"far hidden": np.inf, "all": np.inf})
    monkeypatch.setattr(dispatch, "choose_kernel", lambda *arguments: names.append(choose(*arguments)) or names[-1])
    short, long = (rng.normal(size=(1, 1, n, K)).astype("float32") for n in (8, 16))
    index, longer = np.arange(8)[None], np.arange(16)[None]
    for heads, options in (
        (short, {}),
        (short, {"query_index": index, "key_index": index}),
        (short, {"query_index": index, "key_index": index.copy()}),
        (short, {"query_index": index}),
        (long, {"query_index": longer, "key_index": longer.copy()}),
    ):
        kernels.attention(heads, heads, heads, mask=masks.Causal(), **options)
    assert names == ["blockwise", "blockwise", "dense", "dense", "blockwise"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_index": (2, 6)}, r"`query_index` must have shape \[B, T\] with T=7. Received: .*shape=\(2, 6\)"),
        ({"query_index": (3, 7)}, r"`query_index` must have shape \[B, T\] with B=2. Received: .*shape=\(3, 7\)"),
        ({"query_index": (7,)}, r"`query_index` must have 2 axes, \[B, T\]. Received: query_index.shape=\(7,\)"),
        ({"key_index": (11,)}, r"`key_index` must have 2 axes, \[B, S\]. Received: key_index.shape=\(11,\)"),
        ({"key_index": (2, 7)}, r"`key_index` must have shape \[B, S\] with S=11. Received: .*shape=\(2, 7\)"),
        ({"key_index": (2, 2, 11)}, r"`key_index` must have shape \[B, T, S\] with T=7. Received: .*\(2, 2, 11\)"),
        ({"query_index": (2, 7), "query_offset": ()}, "`query_offset` must be None where `query_index` is given"),
        ({"key_index": (2, 11), "key_length": (2,)}, "`key_length` must be None where `key_index` is given"),
    ],
)
def test_shapes_that_do_not_match_raise(options, message, rng):
    given = {name: np.zeros(shape, "int32") for name, shape in options.items()}
    with pytest.raises(ValueError, match=message):
        kernels.attention(*three(rng), **given)


@pytest.mark.parametrize("name", ["query_index", "key_index"])
def test_floats_are_no_indices(name, rng):
    given = np.zeros((2, 7 if name == "query_index" else 11), "float32")
    with pytest.raises(ValueError, match=f"`{name}` must be integers. Received: {name}.dtype=float32"):
        kernels.attention(*three(rng), **{name: given})


@pytest.mark.tensorflow  # counts operations of TensorFlow's graph
def test_a_grid_makes_no_operation_before_a_mask_reads_an_index():
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        query, key = (tf.compat.v1.placeholder("float32", (None, H, None, K)) for _ in range(2))
        before = len(graph.get_operations())
        grid = dispatch.whole_grid(query, key)
        assert grid.visible(None) is None
        assert len(graph.get_operations()) == before
        assert grid.query_index is grid.query_index
        assert len(graph.get_operations()) > before
