"""ONNX, OpenVINO and LiteRT hold every kind of model, and each one's runtime answers as Keras does."""

import keras
import numpy as np
import pytest

import keras_attn as ka
from keras_attn.kernels import choice
from tests.exports import runtimes, subjects

# Converters and runtimes have warnings of their own.
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore")]

# What a format cannot hold of Keras' own GRU either: see the last tests.
NEED_A_FIXED_BATCH = {("litert", "recurrent"), ("litert", "recurrent_layer")}
CANNOT = {("openvino", "recurrent"): "No conversion rule found for operations: TensorList"}


@pytest.fixture(scope="module", params=[(name, lengths) for name in subjects.MODELS for lengths in ("free", "fixed")])
def case(request):
    """The name of a model, whether its lengths are free or fixed, and the model."""
    name, lengths = request.param
    model = subjects.make(name, lengths)
    model(subjects.inputs(model, subjects.ids(name)))  # Keras exports to ONNX what was called
    return name, lengths, model


@pytest.mark.parametrize("kind", runtimes.NEEDS)
def test_the_runtime_answers_as_keras(kind, case, tmp_path):
    name, lengths, model = case
    runtimes.need(kind)
    if (kind, name) in CANNOT:
        with pytest.raises(Exception, match=CANNOT[kind, name]):
            runtimes.export(model, kind, tmp_path)
        return
    fixed_batch = (kind, name) in NEED_A_FIXED_BATCH
    ids = subjects.ids(name)
    signature = {"input_signature": subjects.signature(model, len(ids["target"]))} if fixed_batch else {}
    path = runtimes.export(model, kind, tmp_path, **signature)
    others = {} if fixed_batch else {"batch": 2}
    others |= {"source": 11, "target": 3} if lengths == "free" else {}
    for given in (ids, subjects.ids(name, **others)):
        found = runtimes.answer(kind, path, given)
        np.testing.assert_allclose(found, model(subjects.inputs(model, given)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", runtimes.NEEDS)
def test_auto_takes_no_kernel_that_the_format_cannot_hold(kind, tmp_path, rng, monkeypatch):
    runtimes.need(kind)
    monkeypatch.setitem(choice.BLOCKWISE_FROM["cpu"], "tensorflow", {"far hidden": 64, "all": 64})
    inputs = keras.Input((13, 16), name="inputs")
    model = keras.Model(inputs, ka.MultiHeadSelfAttention(2, mask=ka.Causal())(inputs))
    given = rng.normal(size=(3, 13, 16)).astype("float32")
    wanted = model(given)
    path = runtimes.export(model, kind, tmp_path)
    np.testing.assert_allclose(runtimes.answer(kind, path, {"inputs": given}), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", runtimes.NEEDS)
def test_attention_over_a_memory_of_free_length_without_biases(kind, tmp_path, rng):
    """Two reshapes in a row, once the biases of a new layer are folded away, which ONNX' converter merges."""
    runtimes.need(kind)
    named = {name: keras.Input((None, 16), name=name) for name in ("query", "memory")}
    model = keras.Model(named, ka.EncoderDecoderAttention(2)(**named))
    given = {name: rng.normal(size=(3, length, 16)).astype("float32") for name, length in (("query", 5), ("memory", 7))}
    wanted = model(given)
    path = runtimes.export(model, kind, tmp_path)
    np.testing.assert_allclose(runtimes.answer(kind, path, given), wanted, rtol=1e-5, atol=1e-5)


def keras_gru():
    """A recurrent model without any layer of ours."""
    tokens = keras.Input((7,), dtype="int32", name="source")
    embedded = keras.layers.Embedding(subjects.VOCABULARY, 16)(tokens)
    return keras.Model(tokens, keras.layers.GRU(8, return_sequences=True)(embedded))


def test_openvino_does_not_hold_the_gru_of_keras(tmp_path):
    runtimes.need("openvino")
    with pytest.raises(Exception, match=CANNOT["openvino", "recurrent"]):
        runtimes.export(keras_gru(), "openvino", tmp_path)


def test_litert_wants_a_fixed_batch_for_the_gru_of_keras(tmp_path):
    runtimes.need("litert")
    ids = {"source": subjects.ids("classifier")["source"]}
    with pytest.raises(RuntimeError, match="Select TensorFlow op"):
        runtimes.answer("litert", runtimes.export(keras_gru(), "litert", tmp_path), ids)
