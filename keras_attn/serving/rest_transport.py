"""A model server over REST, in its columnar JSON: the whole batch of an input or output under one name."""

import base64
import json
import urllib.parse

import requests
import urllib3

from keras_attn.serving.errors import ServingError, error_of

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
_POOL_SIZE = 64  # threads that keep a connection each; more than that open and close their own


class RestTransport:
    """Requests over a pool of connections, which all threads share.

    Args:
        target: The `Target` of all requests.
        retries: How often a request is repeated where the server is overloaded or not reached.
    """

    def __init__(self, target, retries):
        self._target = target
        version = "" if target.version is None else f"/versions/{target.version}"
        self._url = f"{target.address.rstrip('/')}/v1/models/{urllib.parse.quote(target.model, safe='')}{version}"
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=_POOL_SIZE, max_retries=_retry_policy(retries))
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def predict(self, name, signature, arrays, timeout):
        """Returns the outputs of signature `name` by name, as nested lists."""
        body = {"signature_name": name, "inputs": {key: _to_json(array) for key, array in arrays.items()}}
        outputs = self._send("POST", ":predict", "outputs", timeout, f"Signature `{name}` of", body)
        specs = signature["outputs"]
        if len(specs) == 1 and not (isinstance(outputs, dict) and set(outputs) == set(specs)):
            outputs = dict.fromkeys(specs, outputs)  # an only output comes without its name
        strings = {key for key, spec in specs.items() if spec.dtype == "string"}
        return {key: _from_json(value) if key in strings else value for key, value in outputs.items()}

    def signature_defs(self, timeout):
        """Returns the model's `SignatureDefMap` as JSON."""
        return self._send("GET", "/metadata", "metadata", timeout, "The metadata of")["signature_def"]["signature_def"]

    def states(self, timeout):
        """Returns the names of the states that the model's versions are in."""
        versions = self._send("GET", "", "model_version_status", timeout, "The status of")
        return [version["state"] for version in versions]

    def close(self):
        """Closes the connections."""
        self._session.close()

    def _send(self, verb, route, key, timeout, asked, body=None):
        asked = f"{asked} {self._target}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            response = self._session.request(verb, self._url + route, data=data, headers=headers, timeout=timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise error_of(_status_of(error), asked, error) from error
        text = response.content.decode(errors="replace")
        if response.status_code != requests.codes.ok:
            raise error_of(_STATUSES.get(response.status_code, "UNKNOWN"), asked, _said(text))
        try:
            return json.loads(text)[key]
        except (ValueError, TypeError, KeyError) as error:
            raise ServingError(f"{asked} brought no JSON with `{key}`: {text[:200]!r}") from error


class _RetryUnlessLate(urllib3.Retry):
    """Retries whatever `urllib3.Retry` does except for requests that took too long."""

    def increment(self, method=None, url=None, response=None, error=None, _pool=None, _stacktrace=None):
        if isinstance(error, _LATE) and not isinstance(error, urllib3.exceptions.NewConnectionError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def _retry_policy(retries):
    return _RetryUnlessLate(
        total=retries,
        allowed_methods=None,  # any: a prediction changes nothing on the server, so that it may be asked twice
        status_forcelist=_RETRIED,
        backoff_factor=0.1,
        backoff_max=2,
        respect_retry_after_header=False,  # it may name hours
        raise_on_status=False,
    )


def _status_of(error):
    """Returns the status for a request that found no answer."""
    if any(isinstance(reason, _LATE) for reason in (error, *error.args)):
        return "DEADLINE_EXCEEDED"
    return "UNAVAILABLE" if isinstance(error, _BROKEN) else "UNKNOWN"


def _said(text):
    """Returns the message of an error's JSON, or whatever came instead."""
    try:
        return json.loads(text, strict=False)["error"]
    except (ValueError, TypeError, KeyError):
        return text[:500]


def _to_json(array):
    """Returns an array as nested lists; bytes that are not text under the key `b64`."""
    return _map_leaves(_write_bytes, array.tolist()) if array.dtype == object else array.tolist()


def _write_bytes(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _from_json(value):
    """Returns nested lists of `str`, those under the key `b64` as `bytes`."""
    return _map_leaves(lambda leaf: base64.b64decode(leaf["b64"]) if isinstance(leaf, dict) else leaf, value)


def _map_leaves(function, value):
    return [_map_leaves(function, row) for row in value] if isinstance(value, list) else function(value)
