"""The client against a server that speaks both protocols, and against the real program where there is one."""

import concurrent.futures
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import requests
import tensorflow as tf

from keras_attn.serving.client import (
    Client,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    ServingError,
)

pytest.importorskip("tensorflow_serving", reason="the server's messages need tensorflow-serving-api")
from tests.serving.serving_double import ServingDouble

pytestmark = pytest.mark.tensorflow

PROGRAM = "tensorflow_model_server"
NAME = "texts"
NOT_UTF8 = b"caf\xe9 \xff"
TEXTS = ["attention", "", "Grüße, 世界 🌍", "a\0b\n\"quoted\" \\ {'b64': 1}", "x" * 10_000]


class Texts(tf.Module):
    """Strings and numbers of every kind that signatures have."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def describe(self, text):
        lengths = tf.strings.length(text)  # [B]
        return {
            "upper": tf.strings.upper(text),
            "length": lengths,
            "score": 1 / tf.cast(lengths, tf.float32),  # infinite for the empty string
            "long": tf.cast(lengths, tf.int64) * 2**53 + 1,
            "empty": tf.equal(text, ""),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name="ids"),
            tf.TensorSpec([None], tf.float32, name="weights"),
        ]
    )
    def weigh(self, ids, weights):
        with tf.control_dependencies([tf.debugging.assert_non_negative(ids)]):
            return {"weighed": tf.cast(ids, tf.float32) * weights[:, None]}  # [B, S]

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.string, name="pairs")])
    def echo(self, pairs):
        return {"pairs": pairs, "pairs_bytes": pairs}


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    directory, model = tmp_path_factory.mktemp("served"), Texts()
    signatures = {"serving_default": model.describe, "weigh": model.weigh, "echo": model.echo}
    for version in (3, 11):
        tf.saved_model.save(model, str(directory / str(version)), signatures=signatures)
    return directory


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def shared_double(model_directory):
    with ServingDouble(model_directory, NAME) as server:
        yield server


@pytest.fixture
def double(shared_double):
    yield shared_double
    shared_double.delay = 0.0
    shared_double.forgive()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def program(model_directory):
    """The addresses of TF Serving's own server."""
    if not shutil.which(PROGRAM):
        pytest.skip(f"{PROGRAM} is not on the PATH")
    ports = free_port(), free_port()
    options = [f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    model = [f"--model_name={NAME}", f"--model_base_path={model_directory}"]
    process = subprocess.Popen([PROGRAM, *options, *model], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    addresses = {"grpc": f"127.0.0.1:{ports[0]}", "rest": f"http://127.0.0.1:{ports[1]}"}
    try:
        with Client(addresses["rest"], NAME) as client:
            waiting = threading.Event()
            assert any(client.ready() or waiting.wait(0.5) for _ in range(120))
        yield addresses
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["double", PROGRAM])
def addresses(request):
    """Where to find a server, by protocol."""
    if request.param == PROGRAM:
        return request.getfixturevalue("program")
    return addresses_of(request.getfixturevalue("double"))


def addresses_of(double):
    return {"grpc": double.grpc_address, "rest": double.rest_address}


@pytest.fixture(params=["grpc", "rest"])
def protocol(request):
    return request.param


@pytest.fixture
def client(addresses, protocol):
    with Client(addresses[protocol], NAME) as client:
        yield client


@pytest.fixture
def faulty(double, protocol):
    """A client whose server fails on demand, and already has told its signatures."""
    with Client(addresses_of(double)[protocol], NAME) as client:
        client.signatures()
        yield client


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
        ({"ids": [[1], [2]], "weights": [1.0]}, "weigh", "as many rows each. Received rows: {'ids': 2, 'weights': 1}"),
        ({"ids": [[1]], "weights": []}, "weigh", "as many rows each. Received rows: {'ids': 1, 'weights': 0}"),
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


def test_refused_by_the_server(client):
    with pytest.raises(InvalidRequest, match="Signature `weigh` of model `texts` at .* failed with ") as caught:
        client.predict({"ids": [[1], [-2]], "weights": [1.0, 2.0]}, signature="weigh")
    assert caught.value.status == "INVALID_ARGUMENT"


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
        with pytest.raises(ServingError, match="must return .*'capitals'.* Received: .*'upper'.* ask again"):
            faulty.predict(["a"])
    assert faulty.predict(["a"])["upper"].tolist() == ["A"]


@pytest.mark.parametrize("status", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_retries_until_it_works(faulty, double, status):
    before = double.requests
    double.fail(2, status)
    assert faulty.predict(["a"])["upper"].tolist() == ["A"]
    assert double.requests == before + 3


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


def test_large_requests_are_retried_too(faulty, double):
    double.fail(1)
    text = "x" * 5_000_000  # above gRPC's usual 4 MB for a message and 256 KiB for a repeatable one
    assert faulty.predict([text])["upper"].tolist() == [text.upper()]


@pytest.mark.parametrize("retries", [0, 1])
def test_retries_run_out(double, protocol, retries):
    with Client(addresses_of(double)[protocol], NAME, retries=retries) as client:
        client.signatures()
        before = double.requests
        double.fail(retries + 1)
        with pytest.raises(ConnectionError, match="`texts` at .* failed with UNAVAILABLE: refused on demand") as caught:
            client.predict(["a"])
        assert caught.type is ServerUnavailable
        assert double.requests == before + retries + 1
        assert client.predict(["a"])["upper"].tolist() == ["A"]


def test_nobody_there(protocol):
    address = f"127.0.0.1:{free_port()}"
    with Client(address if protocol == "grpc" else f"http://{address}", NAME, retries=1) as client:
        assert not client.ready()
        with pytest.raises(ServerUnavailable, match=f"The metadata of model `texts` at .*{address}") as caught:
            client.predict(["a"])
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("INTERNAL", ServingError),
        ("NOT_FOUND", ModelNotFound),
        ("INVALID_ARGUMENT", InvalidRequest),
    ],
)
def test_other_failures_are_not_retried(faulty, double, status, kind):
    before = double.requests
    double.fail(1, status)
    with pytest.raises(ServingError, match=f"failed with {status}: refused on demand") as caught:
        faulty.predict(["a"])
    assert caught.type is kind
    assert caught.value.status == status
    assert double.requests == before + 1


def test_failures_pass_on_what_ready_cannot_tell(faulty, double):
    double.fail(1, "INTERNAL")
    with pytest.raises(ServingError, match="The status of model"):
        faulty.ready()


def test_deadline(faulty, double):
    double.delay = 0.6
    with pytest.raises(TimeoutError, match="Signature `serving_default` of .*DEADLINE_EXCEEDED") as caught:
        faulty.predict(["a"], timeout=0.2)
    assert caught.type is DeadlineExceeded
    assert caught.value.__cause__ is not None
    double.delay = 0.0
    assert faulty.predict(["a"])["upper"].tolist() == ["A"]


def test_deadline_of_the_client(double, protocol):
    double.delay = 0.6
    with Client(addresses_of(double)[protocol], NAME, timeout=0.2) as client:
        assert not client.ready()
        with pytest.raises(DeadlineExceeded, match="The metadata of"):
            client.signatures()


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


@contextlib.contextmanager
def raw_server(answer):
    """A server that reads one request and sends fixed bytes."""

    def serve(listener):
        with contextlib.suppress(OSError):  # closed while it waits
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    stop.wait(hold)

    stop, hold = threading.Event(), 1.0 if answer.endswith(b"{") else 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            ServingError,
            "brought no JSON with `metadata`: 'hello'",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", ServingError, "brought no JSON with `metadata`: '{}'"),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{]", InvalidRequest, "INVALID_ARGUMENT: {]"),
        (b"HTTP/1.1 404 Gone\r\nContent-Length: 2\r\n\r\n[]", ModelNotFound, r"NOT_FOUND: \[\]"),
        (b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n", ServingError, "UNKNOWN"),
        (b"HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n", ServerUnavailable, "UNAVAILABLE"),
        (b"", ServerUnavailable, "UNAVAILABLE"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", ServerUnavailable, "UNAVAILABLE"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", DeadlineExceeded, "DEADLINE_EXCEEDED"),
    ],
    ids=["no JSON", "other JSON", "no error", "bare", "odd", "gateway", "cut off", "cut short", "stuck"],
)
def test_rest_answers_that_no_model_server_gives(answer, kind, message):
    with raw_server(answer) as address, Client(address, NAME, retries=1, timeout=0.3) as client:
        with pytest.raises(ServingError, match=message) as caught:
            client.signatures()
        assert caught.type is kind


@pytest.mark.parametrize(
    ("signature", "instances", "code", "answer"),
    [
        (
            "echo",
            [["a", {"b64": "/w=="}]],
            200,
            [{"pairs": ["a", "\ufffd"], "pairs_bytes": [{"b64": "YQ=="}, {"b64": "/w=="}]}],
        ),
        ("weigh", [{"ids": [1, 2], "weights": 0.5}, {"ids": [3, 4], "weights": 2}], 200, [[0.5, 1.0], [6.0, 8.0]]),
        ("weigh", [{"ids": [1, 2]}], 400, "keys must be equal to: ids,weights"),
        ("weigh", [[1, 2]], 400, "instances is a plain list"),
        ("echo", [["a", "b"], ["c"]], 400, "size"),
        ("echo", [["a", 1]], 400, "not of expected type: string"),
        ("echo", [], 400, "No values in"),
        ("other", ["a"], 400, "not found in signature def"),
    ],
)
def test_rows_which_others_may_send(addresses, signature, instances, code, answer):
    """The double answers row by row as TF Serving does; the client has no use for that."""
    body = {"signature_name": signature, "instances": instances}
    response = requests.post(f"{addresses['rest']}/v1/models/{NAME}:predict", json=body, timeout=10)
    text = json.loads(response.content.decode(errors="replace"), strict=False)
    assert response.status_code == code
    assert text["predictions"] == answer if code == 200 else answer in text["error"]


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
