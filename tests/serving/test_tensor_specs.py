"""What is sent and what comes back: dtypes, shapes, strings; misfits are refused before they are sent."""

import numpy as np
import pytest

from keras_attn.serving.errors import InvalidRequest
from tests.serving.served_texts import NOT_UTF8

pytest.importorskip("tensorflow_serving", reason="the server's messages need tensorflow-serving-api")


pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    "inputs",
    [
        ["one", "two"],
        ("one", "two"),
        [b"one", "two"],
        np.array(["one", "two"]),
        np.array([b"one", b"two"], dtype=object),
        {"text": ["one", "two"]},
    ],
    ids=["list", "tuple", "bytes", "array", "objects", "dictionary"],
)
def test_strings_come_in_many_forms(client, inputs):
    assert client.predict(inputs)["upper"].tolist() == ["ONE", "TWO"]


def test_numbers_take_the_dtype_of_the_signature(client):
    ids = [[2, 3, 5], [7, 11, 13]]
    outputs = client.predict({"ids": ids, "weights": [1, float("nan")]}, signature="weigh")
    assert list(outputs) == ["weighed"]  # an only output, which REST sends without its name
    assert outputs["weighed"].dtype == np.float32
    np.testing.assert_array_equal(outputs["weighed"], [[2, 3, 5], [np.nan] * 3])


def test_float32_survives(client, rng):
    weights = np.concatenate([rng.normal(size=97), [0.1, 1.2e-38, 3.4e38, -0.0, np.inf, -np.inf]]).astype(np.float32)
    outputs = client.predict({"ids": np.ones((len(weights), 1), np.int64), "weights": weights}, signature="weigh")
    np.testing.assert_array_equal(outputs["weighed"][:, 0].view(np.int32), weights.view(np.int32))


def test_bytes_that_are_not_text(client):
    pairs = [[NOT_UTF8, "naïve"], [b"", "🌍".encode()]]
    shown = [["caf\ufffd \ufffd", "naïve"], ["", "🌍"]]
    outputs = client.predict(pairs, signature="echo")
    assert outputs["pairs"].tolist() == shown
    assert outputs["pairs_bytes"].tolist() == shown
    assert client.predict([NOT_UTF8])["length"].tolist() == [6]


@pytest.mark.parametrize(
    ("inputs", "signature", "message"),
    [
        (["a"], "classify", "one of `echo`, `serving_default`, `weigh` for model `texts`.* Received: 'classify'"),
        ([1], "weigh", r"dictionary: signature `weigh` takes `ids` \(int32 of shape \(None, None\)\), `weights`"),
        ({"texts": ["a"]}, "serving_default", r"takes: `text` \(string of shape \(None,\)\)\. Received: \['texts'\]"),
        ({"ids": [[1]]}, "weigh", r"takes: `ids` .*, `weights` \(float32 .* Received: \['ids'\]"),
        ([1, 2], "serving_default", r"`text` must be string of shape \(None,\)\. Received: a value of type int"),
        ([None], "serving_default", "Received: a value of type NoneType"),
        ("text", "serving_default", r"Received: shape \(\)"),
        ([["a", "b"], ["c"]], "echo", "`pairs` must be string .* Received: rows of different lengths"),
        ([["a", ["b"]]], "echo", "rows of different lengths or depths"),
        ([["a", "b", "c"]], "echo", r"`pairs` must be string of shape \(None, 2\)\. Received: shape \(1, 3\)"),
        (["\ud800"], "serving_default", "text that UTF-8 cannot write"),
        ({"ids": [[1], [2, 3]], "weights": [1.0]}, "weigh", "`ids` must be int32 .* Received: rows of different"),
        ({"ids": [[1.5]], "weights": [1.0]}, "weigh", r"`ids` must be int32 .* Received: float64 of shape \(1, 1\)"),
        ({"ids": [["1"]], "weights": [1.0]}, "weigh", "`ids` must be int32 .* Received: <U1"),
        ({"ids": [[2**31]], "weights": [1.0]}, "weigh", "Received: values out of its range, as int64"),
        ({"ids": [[2**70]], "weights": [1.0]}, "weigh", "Received: object"),
        ({"ids": [[1]], "weights": [1e300]}, "weigh", "`weights` must be float32 .* values out of its range"),
        ({"ids": [1], "weights": [1.0]}, "weigh", r"`ids` must be .* Received: shape \(1,\)"),
        ([["a", "b"]], "serving_default", r"`text` must be string of shape \(None,\)\. Received: shape \(1, 2\)"),
        (
            {"ids": [[1], [2]], "weights": [1.0]},
            "weigh",
            "the same number of rows. Received rows: {'ids': 2, 'weights': 1}",
        ),
        ({"ids": [[1]], "weights": []}, "weigh", "the same number of rows. Received rows: {'ids': 1, 'weights': 0}"),
        ({"ids": [[], []], "weights": [1.0, 2.0]}, "weigh", r"rows without elements, shape \(2, 0\)"),
    ],
)
def test_misfits_are_refused_unsent(faulty, double, inputs, signature, message):
    before = double.requests
    with pytest.raises(InvalidRequest, match=message) as caught:
        faulty.predict(inputs, signature)
    assert isinstance(caught.value, ValueError)
    assert caught.value.status == "INVALID_ARGUMENT"
    assert double.requests == before
