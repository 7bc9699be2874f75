"""REST alone: answers that no model server gives, and rows as other clients send them."""

import contextlib
import json
import socket
import threading

import pytest
import requests

from keras_attn.serving.client import Client
from keras_attn.serving.errors import DeadlineExceeded, InvalidRequest, ModelNotFound, ServerUnavailable, ServingError
from keras_attn.serving.rest_transport import RestTransport
from tests.serving.served_texts import NAME

pytest.importorskip("tensorflow_serving", reason="the server's messages need tensorflow-serving-api")


pytestmark = pytest.mark.tensorflow


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
            "returned no JSON with `metadata`: 'hello'",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", ServingError, "returned no JSON with `metadata`: '{}'"),
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


def test_several_outputs_without_names_are_refused(double, monkeypatch):
    with Client(double.rest_address, NAME) as client:
        client.signatures()
        monkeypatch.setattr(RestTransport, "_send", lambda *arguments: {"outputs": [1, 2]})
        with pytest.raises(ServingError, match=r"must return \['empty', .* Received: \[\]"):
            client.predict(["a"])
