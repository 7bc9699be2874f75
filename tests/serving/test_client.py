"""The client against a server that speaks both protocols, and against the real program where there is one."""

import concurrent.futures
import sys

import numpy as np
import pytest

from keras_attn.serving.client import Client
from keras_attn.serving.errors import InvalidRequest, ModelNotFound, ServerUnavailable, ServingError
from tests.serving.served_texts import NAME

pytest.importorskip("tensorflow_serving", reason="the server's messages need tensorflow-serving-api")


pytestmark = pytest.mark.tensorflow

TEXTS = ["attention", "", "Grüße, 世界 🌍", "a\0b\n\"quoted\" \\ {'b64': 1}", "x" * 10_000]


def test_predict(client):
    outputs = client.predict(TEXTS)
    lengths = np.array([len(text.encode()) for text in TEXTS], np.int32)
    with np.errstate(divide="ignore"):
        scores = 1 / lengths.astype(np.float32)
    assert list(outputs) == ["empty", "length", "long", "score", "upper"]
    assert {name: array.dtype.name for name, array in outputs.items()} == {
        "empty": "bool",
        "length": "int32",
        "long": "int64",
        "score": "float32",
        "upper": "object",
    }
    assert outputs["upper"].tolist() == [text.encode().upper().decode() for text in TEXTS]
    np.testing.assert_array_equal(outputs["length"], lengths)
    np.testing.assert_array_equal(outputs["score"], scores)
    np.testing.assert_array_equal(outputs["long"], lengths.astype(np.int64) * 2**53 + 1)
    np.testing.assert_array_equal(outputs["empty"], [text == "" for text in TEXTS])


def test_no_rows(faulty, double):
    """Answered without the server, which would wait for another request if it batches."""
    before = double.requests
    outputs = faulty.predict([])
    assert {name: (array.shape, array.dtype.name) for name, array in outputs.items()} == {
        "empty": ((0,), "bool"),
        "length": ((0,), "int32"),
        "long": ((0,), "int64"),
        "score": ((0,), "float32"),
        "upper": ((0,), "object"),
    }
    for ids in (np.zeros((0, 3), "int32"), []):
        weighed = faulty.predict({"ids": ids, "weights": []}, "weigh")["weighed"]
        assert weighed.shape == (0, 0) and weighed.dtype == np.float32
    assert faulty.predict(np.zeros((0, 2), object), "echo")["pairs"].shape == (0, 2)
    assert double.requests == before


def test_signatures(client):
    signatures = client.signatures()
    assert list(signatures) == ["echo", "serving_default", "weigh"]
    assert signatures["weigh"] == {
        "inputs": {"ids": ("int32", (None, None)), "weights": ("float32", (None,))},
        "outputs": {"weighed": ("float32", (None, None))},
    }
    assert signatures["echo"]["inputs"] == {"pairs": ("string", (None, 2))}
    assert client.signatures() is signatures


def test_versions(addresses, protocol):
    with Client(addresses[protocol], NAME, version=11) as newest:
        assert newest.ready()
        assert newest.predict(["a"])["upper"].tolist() == ["A"]
    with Client(addresses[protocol], NAME, version=5) as missing:
        assert not missing.ready()
        with pytest.raises(ModelNotFound, match="model `texts`, version 5, at .*NOT_FOUND"):
            missing.predict(["a"])


def test_unknown_model(addresses, protocol):
    with Client(addresses[protocol], "other") as client:
        assert not client.ready()
        with pytest.raises(
            LookupError, match="metadata of model `other` at .*127.0.0.1.* NOT_FOUND: .*other"
        ) as caught:
            client.predict(["a"])
    assert caught.type is ModelNotFound
    assert caught.value.status == "NOT_FOUND"
    assert caught.value.__cause__ is not None or protocol == "rest"  # an HTTP answer is no exception


def test_signatures_are_asked_for_again_after_a_refusal(faulty, double):
    known = faulty.signatures()
    with pytest.raises(InvalidRequest):
        faulty.predict(["a"], signature="of a later version")
    assert faulty.signatures() == known
    assert faulty.signatures() is not known


def test_outputs_of_another_version(faulty, double, monkeypatch):
    metadata = double.metadata()
    outputs = metadata.signature_def["serving_default"].outputs
    outputs["capitals"].CopyFrom(outputs["upper"])
    del outputs["upper"]
    with pytest.raises(InvalidRequest):
        faulty.predict(["a"], "of a later version")
    with monkeypatch.context() as patch:
        patch.setattr(double, "metadata", lambda: metadata)
        with pytest.raises(ServingError, match="must return .*'capitals'.* Received: .*'upper'.* repeat the request"):
            faulty.predict(["a"])
    assert faulty.predict(["a"])["upper"].tolist() == ["A"]


def test_requests_that_met_another_shape_are_asked_again(faulty, double):
    before = double.requests
    double.fail(2, "FAILED_PRECONDITION", "'x' from different tasks have different shapes and padding is turned off.")
    assert faulty.predict(["a"])["upper"].tolist() == ["A"]
    assert double.requests == before + 3
    double.fail(9, "FAILED_PRECONDITION", "'x' from different tasks have different shapes and padding is turned off.")
    with pytest.raises(ServerUnavailable, match="from different tasks have different shapes") as caught:
        faulty.predict(["a"], timeout=60)
    assert caught.value.status == "ABORTED"
    assert double.requests == before + 3 + 4, "three retries"


def test_threads_share_a_client(client):
    def ask(number):
        texts = [f"text {number} {row}" for row in range(number % 5 + 1)]
        return client.predict(texts)["upper"].tolist() == [text.upper() for text in texts]

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(64)))


def test_closed(client):
    client.predict(["a"])
    client.close()
    client.close()
    for use in (lambda: client.predict(["a"]), client.signatures, client.ready):
        with pytest.raises(RuntimeError, match="client of model `texts` at .* is closed"):
            use()


def test_rest_needs_no_serving_package(double, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow_serving"]:
        monkeypatch.setitem(sys.modules, name, None)
    with Client(f"{double.rest_address}/", NAME) as client:
        assert client.predict(["a"])["upper"].tolist() == ["A"]
    with pytest.raises(ImportError, match=r'pip install "keras-attn\[serving\]"') as caught:
        Client(double.grpc_address, NAME)
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"address": ""}, "`address` must be a string that is not empty. Received: address=''"),
        ({"address": 8500}, "`address` must be a string"),
        ({"model": None}, "`model` must be a string"),
        ({"version": "3"}, r"`version` must be an integer from 0 to \d+. Received: version='3'"),
        ({"version": -1}, "`version` must be an integer"),
        ({"timeout": 0}, "`timeout` must be a positive number of seconds. Received: timeout=0"),
        ({"timeout": True}, "`timeout` must be a positive number"),
        ({"retries": 5}, "`retries` must be an integer from 0 to 4. Received: retries=5"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Client(**{"address": "http://127.0.0.1:1", "model": NAME, **arguments})


def test_timeout_is_checked(double):
    with Client(double.rest_address, NAME) as client, pytest.raises(ValueError, match="`timeout` must be a positive"):
        client.predict(["a"], timeout=-1)
