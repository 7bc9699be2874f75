"""Which kernel runs, by the measured table, the mask and the backend; and the backend's own kernel."""

import copy
import importlib.util
import pathlib
import types

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import backend, kernels, masks
from keras_attn.kernels import choice, measured

BACKEND = keras.config.backend()
NEVER = measured.NEVER
TABLES = ("BLOCKWISE_FROM", "FUSED_FROM")


@pytest.fixture
def table(monkeypatch):
    """A made-up table: blockwise from 8 x 8 scores if far keys are hidden, else from 16 x 16."""
    modes = ("tensorflow", "tensorflow-xla", "jax-xla", "torch")
    monkeypatch.setattr(choice, "BLOCKWISE_FROM", {"cpu": {mode: {"far hidden": 64, "all": 256} for mode in modes}})
    monkeypatch.setattr(choice, "FUSED_FROM", {"cpu": {mode: {"far hidden": NEVER, "all": NEVER} for mode in modes}})
    return choice


def chosen(length, mask=None, kernel="auto", fused_supported=True, fused_linear=False):
    heads = keras.KerasTensor((1, 1, length, 2))
    return choice.choose_kernel(kernel, heads, heads, mask, False, fused_supported, fused_linear)


def test_auto_depends_on_the_table_and_the_mask(table):
    padding = masks.Padding(None, np.ones((1, 8), bool))
    assert [chosen(n) for n in (7, 8, 15, 16)] == ["dense", "dense", "dense", "blockwise"]
    assert [chosen(n, masks.Causal() & padding) for n in (7, 8)] == ["dense", "blockwise"]
    assert (chosen(None), chosen(None, masks.Window(3))) == ("dense", "dense")


def test_every_backend_and_mode_was_measured_on_the_cpu():
    for rows in (measured.BLOCKWISE_FROM["cpu"], measured.FUSED_FROM["cpu"]):
        assert set(rows) == {"tensorflow", "tensorflow-xla", "jax-xla", "torch"}
        assert all(set(row) == {"far hidden", "all"} for row in rows.values())


def test_auto_takes_the_fused_kernel_if_it_was_faster_and_supports_the_options(table, monkeypatch):
    fused = {mode: {"far hidden": 16, "all": 16} for mode in choice.BLOCKWISE_FROM["cpu"]}
    monkeypatch.setattr(choice, "FUSED_FROM", {"cpu": fused})
    assert [chosen(n) for n in (3, 4, 16)] == ["dense", "fused", "fused"]
    assert [chosen(n, fused_supported=False) for n in (4, 16)] == ["dense", "blockwise"]


def test_pinned_fused_falls_back_to_what_auto_takes(table):
    assert [chosen(n, kernel="fused") for n in (2, 16)] == ["fused", "fused"]
    assert [chosen(n, kernel="fused", fused_supported=False) for n in (2, 16)] == ["dense", "blockwise"]


@pytest.mark.parametrize("kind", ["gpu", "tpu", "npu"])
def test_measurements_on_a_cpu_do_not_apply_to_other_devices(table, monkeypatch, kind):
    """Fused if there is one, unless it would build the scores of a long sequence; blockwise from 2,048 on."""
    monkeypatch.setattr(choice, "device_kind", lambda tensor: kind)
    lengths = (1, 16, 2047, 2048)
    for mask in (None, masks.Causal()):
        assert [chosen(n, mask, fused_supported=False) for n in lengths] == ["dense", "dense", "dense", "blockwise"]
        assert [chosen(n, mask) for n in lengths] == ["fused", "fused", "fused", "blockwise"]
        assert [chosen(n, mask, fused_linear=True) for n in lengths] == ["fused"] * 4
    assert [chosen(n, fused_linear=True) for n in (None, 0)] == ["dense", "dense"]
    assert [chosen(n, kernel="fused") for n in (16, 2048)] == ["fused", "fused"]
    assert [chosen(n, kernel="fused", fused_supported=False) for n in (16, 2048)] == ["dense", "blockwise"]


def test_each_kind_of_device_has_a_table_of_its_own(table, monkeypatch):
    wanted = {}
    for kind, least in (("cpu", 64), ("gpu", 16)):
        modes = {mode: {"far hidden": least, "all": least} for mode in choice.FUSED_FROM["cpu"]}
        monkeypatch.setitem(choice.BLOCKWISE_FROM, kind, modes)
        monkeypatch.setitem(choice.FUSED_FROM, kind, {mode: {"far hidden": NEVER, "all": NEVER} for mode in modes})
    for kind in ("cpu", "gpu"):
        monkeypatch.setattr(choice, "device_kind", lambda tensor, kind=kind: kind)
        wanted[kind] = [chosen(n) for n in (3, 4, 7, 8)]
    assert wanted == {"cpu": ["dense"] * 3 + ["blockwise"], "gpu": ["dense"] + ["blockwise"] * 3}


def test_the_kind_of_device_is_that_of_the_tensor_or_the_default():
    assert backend.device_kind() == backend.device_kind(ops.ones((2,))) == "cpu"
    assert backend.device_kind(keras.KerasTensor((2,))) == "cpu"


@pytest.mark.skipif(BACKEND != "tensorflow", reason="devices of TensorFlow")
def test_the_kind_of_device_in_tensorflows_device_scopes(monkeypatch):
    import tensorflow as tf

    found = {}
    with tf.Graph().as_default():
        for scope in (None, "/device:GPU:1", "/job:tpu_worker/device:CPU:0", "/device:TPU_REPLICATED_CORE:0"):
            with tf.device(scope):
                found[scope] = backend.device_kind(tf.zeros(()))
    assert list(found.values()) == ["cpu", "gpu", "cpu", "tpu"]
    kinds = ["CPU", "GPU"]
    logical = [tf.config.LogicalDevice(f"/device:{kind}:0", kind) for kind in kinds]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: logical)
    assert backend.device_kind() == "gpu"
    assert backend.device_kind(tf.zeros(())) == "cpu"  # it is there already


@pytest.mark.skipif(BACKEND != "jax", reason="devices of JAX")
def test_devices_of_jax(monkeypatch):
    import jax

    heads = {size: ops.ones((1, 1, 4, size), "bfloat16") for size in (64, 60)}

    def linear(masked=False, biased=False, size=64):
        return backend.fused_is_linear(heads[size], masked, biased)

    assert not linear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert backend.device_kind() == "gpu"
    assert backend.device_kind(heads[64]) == "cpu"  # it is there already
    for capability, wanted in (("9.0", True), ("7.5", False), ("gfx90a", False)):
        device = types.SimpleNamespace(compute_capability=capability)
        monkeypatch.setattr(jax, "local_devices", lambda backend, device=device: [device])
        assert linear() is wanted
        assert (linear(masked=True), linear(biased=True), linear(size=60)) == (False, False, False)


@pytest.mark.skipif(BACKEND != "torch", reason="devices of PyTorch")
def test_devices_of_torch():
    import torch

    heads = torch.ones((1, 1, 4, 8), device="meta")
    assert backend.device_kind(heads) == "cpu"
    assert [backend.fused_is_linear(heads, masked=True, biased=biased) for biased in (False, True)] == [True, False]


def test_the_benchmark_writes_the_tables_that_it_read(tmp_path, monkeypatch):
    """And adds the row of another kind of device."""
    benchmarks = pathlib.Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(str(benchmarks))
    spec = importlib.util.spec_from_file_location("benchmarks_attention", benchmarks / "attention.py")
    attention = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(attention)
    path, text = tmp_path / "measured.py", pathlib.Path(measured.__file__).read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    tables = types.SimpleNamespace(**{name: copy.deepcopy(getattr(measured, name)) for name in TABLES})
    attention.write_tables(path, tables)
    assert path.read_text(encoding="utf-8") == text
    attention.row(tables.BLOCKWISE_FROM, "gpu", "jax-xla")["all"] = 512**2
    attention.write_tables(path, tables)
    namespace = {}
    exec(path.read_text(encoding="utf-8"), namespace)
    assert namespace["BLOCKWISE_FROM"] == {**measured.BLOCKWISE_FROM, "gpu": {"jax-xla": {"all": 512**2}}}
    assert namespace["FUSED_FROM"] == measured.FUSED_FROM
    assert attention.measure("device", 0) == {"kind": "cpu"}


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        (ka.Causal(), True),
        (ka.Window(3), True),
        (ka.Window(60), False),
        (~ka.Causal(), False),
        (ka.masks.Dilated(2), False),
        (ka.Window(3) | ka.masks.Global([50]), True),
        (ka.Window(3) | ka.masks.Global([0]), False),
        (None, False),
    ],
)
def test_which_masks_hide_far_keys(mask, wanted):
    assert choice.hides_far_keys(mask, 100, 100) is wanted


MASKS = {
    "none": None,
    "causal": masks.Causal(),
    "padding": masks.Padding(np.arange(7) != np.array([[2], [7]]), np.arange(9) < np.array([[0], [5]])),
    "both": masks.Causal() & masks.Padding(None, np.arange(9) != np.array([[0], [8]])),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "options",
    [{}, {"bias": True}, {"softcap": 2.0}, {"sinks": True}, {"query_offset": [0, 2]}, {"scale": 0.3}],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.parametrize("groups", [1, 2])
def test_fused_equals_dense(mask, options, groups, rng):
    """Also if it has to fall back, and on backends without a fused kernel."""
    query = rng.normal(size=(2, 4, 7, 6)).astype("float32")
    key, value = (rng.normal(size=(2, 4 // groups, 9, 6)).astype("float32") for _ in range(2))
    options = {**options}
    if "bias" in options:
        options["bias"] = np.where(rng.random((4, 7, 9)) < 0.2, -np.inf, rng.normal(size=(4, 7, 9))).astype("float32")
    if "sinks" in options:
        options["sinks"] = rng.normal(size=4).astype("float32")
    one, two = (
        kernels.attention(query, key, value, mask=MASKS[mask], kernel=kernel, **options)
        for kernel in ("fused", "dense")
    )
    np.testing.assert_allclose(ops.convert_to_numpy(one), ops.convert_to_numpy(two), atol=2e-6)


@pytest.mark.parametrize("shape", [(9,), (7, 9), (1, 7, 9), (2, 1, 1, 9)])
@pytest.mark.parametrize("kernel", ["fused", "blockwise"])
def test_masks_of_every_rank(kernel, shape, rng):
    heads = [rng.normal(size=(2, 2, n, 6)).astype("float32") for n in (7, 9, 9)]
    mask = rng.random(shape) < 0.7
    one, two = (kernels.attention(*heads, mask=mask, kernel=each) for each in (kernel, "dense"))
    np.testing.assert_allclose(ops.convert_to_numpy(one), ops.convert_to_numpy(two), atol=2e-6)


@pytest.mark.parametrize("kernel", ["dense", "blockwise", "fused"])
@pytest.mark.parametrize("sizes", [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_empty_axes(kernel, sizes):
    batch, target, source = sizes
    heads = [np.ones((batch, 2, n, 4), "float32") for n in (target, source, source)]
    outputs = ops.convert_to_numpy(kernels.attention(*heads, mask=masks.Causal(), kernel=kernel))
    assert outputs.shape == (batch, 2, target, 4)
    if source == 0:
        np.testing.assert_array_equal(outputs, 0)


def test_fused_square_causal_equals_dense(rng):
    heads = rng.normal(size=(2, 3, 9, 8)).astype("float32")
    one, two = (
        kernels.attention(heads, heads, heads, mask=masks.Causal(), kernel=kernel) for kernel in ("fused", "dense")
    )
    np.testing.assert_allclose(ops.convert_to_numpy(one), ops.convert_to_numpy(two), atol=2e-6)


@pytest.mark.trains
@pytest.mark.skipif(BACKEND == "tensorflow", reason="has no fused kernel")
def test_fused_trains_as_dense_does_even_if_a_query_sees_no_key(rng):
    x, mask = rng.normal(size=(2, 7, 8)).astype("float32"), np.arange(7) < np.array([[4], [0]])
    weights = {}
    for kernel in ("dense", "fused"):
        layer = ka.MultiHeadSelfAttention(2, kernel=kernel)
        inputs, padding = keras.Input((None, 8)), keras.Input((None,), dtype="bool")
        model = keras.Model([inputs, padding], layer(inputs, mask=padding))
        layer.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in layer.weights])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit([x, mask], np.roll(x, 1, axis=1), verbose=0)
        weights[kernel] = layer.get_weights()
    for one, two in zip(weights["dense"], weights["fused"], strict=True):
        assert np.all(np.isfinite(two))
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("kernel", ["blockwise", "fused"])
def test_kernels_without_scores_raise(kernel, rng):
    heads = rng.normal(size=(1, 1, 4, 3)).astype("float32")
    with pytest.raises(ValueError, match=rf'must be "dense" or "auto" if the scores are returned.*{kernel}'):
        kernels.attention(heads, heads, heads, kernel=kernel, return_scores=True)


class SymbolicHeads:
    """Heads as JAX exports them: the batch is neither an integer nor None."""

    shape = (object(), 1, 16, 2)


@pytest.mark.parametrize("kernel", ["auto", "blockwise"])
def test_auto_is_dense_where_sizes_are_symbolic(table, kernel):
    heads = SymbolicHeads()
    wanted = {"auto": "dense", "blockwise": "blockwise"}[kernel]
    assert choice.choose_kernel(kernel, heads, heads, None, False, True) == wanted


def called_from(module):
    """Returns the kernel that is chosen in a function of another module."""
    namespace = {"__name__": module, "chosen": chosen}
    exec("kernel = chosen(16)", namespace)
    return namespace["kernel"]


@pytest.mark.parametrize("kind", ["onnx", "openvino", "litert"])
def test_auto_is_dense_while_keras_exports_to_a_format_without_such_loops(table, kind):
    module = f"{keras.Model.export.__module__.split('.')[0]}.src.export.{kind}"
    assert importlib.util.find_spec(module) is not None  # else Keras has moved it, and `choice` must know
    assert called_from(module) == "dense"
    assert called_from(f"mine.{kind}") == called_from("keras.src.export.saved_model") == "blockwise"


@pytest.mark.parametrize("module", ["tf2onnx.convert", "tensorflow.lite.python.lite"])
def test_auto_is_dense_in_converters(table, module):
    assert called_from(module) == "dense"
