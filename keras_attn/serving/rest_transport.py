"""A model server over REST, in its columnar JSON: the whole batch of an input or output under one name."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias, TypedDict

import numpy as np
import requests
import urllib3

from keras_attn.serving.errors import ServingError, error_of
from keras_attn.serving.tensor_specs import Arrays, SignatureDefJson, SignatureSpec
from keras_attn.serving.transport import Target

Json: TypeAlias = "bool | int | float | str | bytes | list[Json] | dict[str, Json] | None"
"""A JSON value; `bytes` represent the dictionaries `{"b64": ...}` of TF Serving."""


class SignatureDefMapJson(TypedDict):
    """A `SignatureDefMap` as JSON."""

    signature_def: dict[str, SignatureDefJson]


class MetadataJson(TypedDict):
    """The metadata of a model that a server reports."""

    signature_def: SignatureDefMapJson


class VersionJson(TypedDict):
    """The state of one version of a model that a server reports."""

    state: str


class Answer(TypedDict, total=False):
    """A server's answer; each kind of request has its own key."""

    outputs: Json
    metadata: MetadataJson
    model_version_status: list[VersionJson]


_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}
_RETRIED = (429, 502, 503, 504)
_LATE = (requests.Timeout, urllib3.exceptions.TimeoutError)
_BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
_POOL_SIZE = 64  # this many connections stay open; further threads open and close their own


class RestTransport:
    """Requests over a pool of connections, which all threads share.

    Args:
        target: The `Target` of all requests.
        retries: How often a request is repeated if the server is overloaded or cannot be reached.
    """

    def __init__(self, target: Target, retries: int) -> None:
        self._target = target
        version = "" if target.version is None else f"/versions/{target.version}"
        self._url = f"{target.address.rstrip('/')}/v1/models/{urllib.parse.quote(target.model, safe='')}{version}"
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=_POOL_SIZE, max_retries=_retry_policy(retries))
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def predict(self, name: str, signature: SignatureSpec, arrays: Arrays, timeout: float) -> dict[str, Json]:
        """Returns the outputs of signature `name` by name, as nested lists."""
        body: dict[str, Json] = {
            "signature_name": name,
            "inputs": {key: _to_json(array) for key, array in arrays.items()},
        }
        outputs = self._send("POST", ":predict", "outputs", timeout, f"Signature `{name}` of", body)["outputs"]
        specs = signature["outputs"]
        if len(specs) == 1 and not (isinstance(outputs, dict) and set(outputs) == set(specs)):
            outputs = dict.fromkeys(specs, outputs)  # a single output comes without its name
        named = outputs if isinstance(outputs, dict) else {}  # the client refuses outputs without names
        strings = {key for key, spec in specs.items() if spec.dtype == "string"}
        return {key: _from_json(value) if key in strings else value for key, value in named.items()}

    def signature_defs(self, timeout: float) -> dict[str, SignatureDefJson]:
        """Returns the model's `SignatureDefMap` as JSON."""
        metadata = self._send("GET", "/metadata", "metadata", timeout, "The metadata of")["metadata"]
        return metadata["signature_def"]["signature_def"]

    def states(self, timeout: float) -> list[str]:
        """Returns the names of the states of the model's versions."""
        answer = self._send("GET", "", "model_version_status", timeout, "The status of")
        return [version["state"] for version in answer["model_version_status"]]

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def _send(self, verb: str, route: str, key: str, timeout: float, what: str, body: Json = None) -> Answer:
        what = f"{what} {self._target}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            response = self._session.request(verb, self._url + route, data=data, headers=headers, timeout=timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise error_of(_status_of(error), what, error) from error
        text = response.content.decode(errors="replace")
        if response.status_code != requests.codes.ok:
            raise error_of(_STATUSES.get(response.status_code, "UNKNOWN"), what, _message_of(text))
        try:
            answer = json.loads(text)
            if answer[key] is None:
                raise KeyError(key)
        except (ValueError, TypeError, KeyError) as error:
            raise ServingError(f"{what} returned no JSON with `{key}`: {text[:200]!r}") from error
        return answer


class _RetryUnlessLate(urllib3.Retry):
    """Retries as `urllib3.Retry` does, except for requests that took too long."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: urllib3.connectionpool.ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> _RetryUnlessLate:
        if isinstance(error, _LATE) and not isinstance(error, urllib3.exceptions.NewConnectionError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def _retry_policy(retries: int) -> urllib3.Retry:
    return _RetryUnlessLate(
        total=retries,
        allowed_methods=None,  # all: a prediction changes nothing on the server, so it may be repeated
        status_forcelist=_RETRIED,
        backoff_factor=0.1,
        backoff_max=2,
        respect_retry_after_header=False,  # it may be hours
        raise_on_status=False,
    )


def _status_of(error: Exception) -> str:
    """Returns the gRPC status for a request without an answer."""
    if any(isinstance(reason, _LATE) for reason in (error, *error.args)):
        return "DEADLINE_EXCEEDED"
    return "UNAVAILABLE" if isinstance(error, _BROKEN) else "UNKNOWN"


def _message_of(text: str) -> str:
    """Returns the message in an error's JSON, or the text itself if it has another form."""
    try:
        return json.loads(text, strict=False)["error"]
    except (ValueError, TypeError, KeyError):
        return text[:500]


def _to_json(array: np.ndarray) -> Json:
    """Returns an array as nested lists; bytes that are not UTF-8 under the key `b64`."""
    return _map_leaves(_write_bytes, array.tolist()) if array.dtype == object else array.tolist()


def _write_bytes(value: bytes) -> Json:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _from_json(value: Json) -> Json:
    """Returns nested lists of `str`, or `bytes` for those under the key `b64`."""
    return _map_leaves(lambda leaf: base64.b64decode(leaf["b64"]) if isinstance(leaf, dict) else leaf, value)


def _map_leaves(function: Callable[..., Json], value: Json) -> Json:
    return [_map_leaves(function, row) for row in value] if isinstance(value, list) else function(value)
