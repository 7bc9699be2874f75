"""Shapes that do not fit a signature are refused by name in the graph, as no session does; numbers are finite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import serving
from keras_attn.serving.guards import finite
from keras_attn.serving.warmup import Request
from tests.serving.exports import ask, folder
from tests.serving.loader import ask as ask_loader

pytestmark = pytest.mark.tensorflow


def strings(*texts):
    return np.array(texts, object)


IDS = np.array([[4, 5, 2], [6, 2, 0]], "int32")
ONE, TWO = np.ones(1), np.ones(2)
MISFITS = [
    ("serving_default", {"source": strings(["a", "b"], ["c", "d"])}, "`source` must have the shape [B]. {} [2 2]"),
    ("serving_default", {"source": np.array("a", object)}, "`source` must have the shape [B]. {} []"),
    ("encode", {"source": strings(["a"])}, "`source` must have the shape [B]. {} [1 1]"),
    (
        "score",
        {"source": strings("a"), "target": strings("AA", "B")},
        "`target` must have as many rows as `source`. Received rows: ] [2] [1]",
    ),
    ("score", {"source": strings("a"), "target": strings(["AA"])}, "`target` must have the shape [B]. {} [1 1]"),
    (
        "generate",
        {"source": IDS[0], "max_length": TWO.astype("int32"), "temperature": TWO.astype("float32")},
        "`source` must have the shape [B, None]. {} [3]",
    ),
    (
        "generate",
        {"source": IDS, "max_length": ONE.astype("int32"), "temperature": TWO.astype("float32")},
        "`max_length` must have as many rows as `source`. Received rows: ] [1] [2]",
    ),
    (
        "generate",
        {"source": IDS, "max_length": TWO.astype("int32"), "temperature": ONE.astype("float32")},
        "`temperature` must have as many rows as `source`. Received rows: ] [1] [2]",
    ),
]


def test_shapes_are_refused_by_name():
    """By the loader of TF Serving, which hands on whatever comes; the next request has its answer."""
    good = Request("serving_default", {"source": strings("abc")})
    empty = Request("serving_default", {"source": np.array([], object)})
    *refused, answer, nothing = ask_loader(
        folder("rnn"), [*(Request(name, inputs) for name, inputs, _ in MISFITS), good, empty]
    )
    for (signature, _, message), found in zip(MISFITS, refused, strict=True):
        name = message.split("`")[1]
        assert message.format(f"Received: {name}.shape=]") in found["error"].item().decode(), (signature, found)
    assert answer["target"][0].decode() == ask("rnn", source=["abc"])["target"][0]
    assert nothing["target"].shape == nothing["score"].shape == (0,)


def test_functional_models_refuse_what_does_not_fit(tmp_path):
    inputs = [keras.Input((3,), name="a"), keras.Input((2,), name="b")]
    joined = keras.layers.Concatenate(name="joined")(inputs)
    path = serving.export(keras.Model(inputs, joined), tmp_path)
    shapes = [((2, 3), (2, 2)), ((2, 3), (1, 2)), ((2, 4), (2, 2)), ((2, 3), (2, 2, 1)), ((3,), (3, 2))]
    requests = [Request("serving_default", {"a": np.ones(a, "float32"), "b": np.ones(b, "float32")}) for a, b in shapes]
    good, *refused = ask_loader(path, requests)
    assert good["joined"].tolist() == [[1] * 5] * 2
    for found, message in zip(
        refused,
        (
            "`b` must have as many rows as `a`. Received rows: ] [1] [2]",
            "`a` must have the shape [B, 3]. Received: a.shape=] [2 4]",
            "`b` must have the shape [B, 2]. Received: b.shape=] [2 2 1]",
            "`a` must have the shape [B, 3]. Received: a.shape=] [3]",
        ),
        strict=True,
    ):
        assert message in found["error"].item().decode()


def test_numbers_that_json_does_not_know():
    greatest = np.finfo("float32").max
    found = finite(tf.constant([np.nan, np.inf, -np.inf, 1.5, -0.0, greatest]))
    assert found.numpy().tolist() == [0.0, greatest, -greatest, 1.5, 0.0, greatest]
    assert finite(tf.constant([5])).numpy().tolist() == [5]


def test_rows_of_padding_have_finite_answers(tmp_path):
    """The mean of no vectors, as Keras' pooling has it, is not a number."""
    inputs = keras.Input((3,), dtype="int32", name="ids")
    x = keras.layers.Embedding(9, 2, mask_zero=True, embeddings_initializer="ones")(inputs)
    pooled = keras.Model(inputs, keras.layers.GlobalAveragePooling1D(name="mean")(x))
    rows = np.array([[4, 5, 0], [0, 0, 0]], "int32")
    assert np.isnan(np.asarray(pooled(rows))[1]).all()
    path = serving.export(pooled, tmp_path)
    found = tf.saved_model.load(str(path)).signatures["serving_default"](ids=tf.constant(rows))["mean"]
    assert found.numpy().tolist() == [[1, 1], [0, 0]]


def test_pooled_models_of_free_length_are_warned_of(tmp_path):
    inputs = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(9, 2, mask_zero=True)(inputs)
    pooled = keras.Model(inputs, keras.layers.GlobalAveragePooling1D(name="mean")(x))
    with pytest.warns(UserWarning, match="inputs `ids` with a free size after the first axis.*`source_text=`"):
        path = serving.export(pooled, tmp_path, warmup=[[4, 5], [6, 0]])
    report = serving.check(path)
    assert report.ok, "notes break no rule"
    assert "note  a server cannot fill short rows" in str(report)
    assert "serving_default: `ids` with a free size after the first axis" in str(report)
    assert "note  answers do not depend on a server's batching" in str(report)
    assert "serving_default: short rows filled and merged: row 1: `mean` differs by" in str(report)
