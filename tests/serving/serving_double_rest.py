"""The REST half of the stand-in: routes, JSON forms and error codes as TF Serving has them."""

import base64
import contextlib
import http.server
import json
import re
import threading

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from tests.serving.served_model import Refusal

CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
POST = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict")
GET = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata)?")


def start(double):
    """Starts a server for a served model, and returns it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.double, server.daemon_threads = double, True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections alive
    disable_nagle_algorithm = True

    def do_GET(self):
        self._answer(self._get, GET)

    def do_POST(self):
        self._answer(self._post, POST)

    def log_message(self, *arguments):
        """Is silent."""

    def _answer(self, handle, routes):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        double = self.server.double
        try:
            double.receive()
            route = routes.fullmatch(self.path)
            if not route:
                raise refusal(f"Malformed request: {self.command} {self.path}")
            double.check_model(route[1], int(route[2]) if route[2] else None)
            code, answer = 200, handle(double, route, body)
        except Refusal as error:
            code, answer = CODES[error.status], {"error": str(error)}
        # Strings go out byte by byte, as the server writes them, whether they are UTF-8 or not.
        text = json.dumps(answer, ensure_ascii=False).encode(errors="surrogateescape")
        with contextlib.suppress(ConnectionError):  # the client may have given up
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def _get(self, double, route, body):
        if not route[3]:
            return json_format.MessageToDict(double.status(), preserving_proto_field_name=True)
        signatures = json_format.MessageToDict(double.metadata(), preserving_proto_field_name=True)
        return {"model_spec": {"name": double.name}, "metadata": {"signature_def": signatures}}

    def _post(self, double, route, body):
        try:
            request = json.loads(body)
        except ValueError as error:
            raise refusal(f"JSON Parse error: {error}") from error
        signature = request.get("signature_name", "serving_default")
        infos = double.inputs_of(signature)
        if ("instances" in request) == ("inputs" in request):
            raise refusal("Missing 'inputs' or 'instances' key, or both of them")
        if "inputs" in request:
            outputs = double.predict(signature, columns(request["inputs"], infos))
            written = {name: write(array, name) for name, array in outputs.items()}
            return {"outputs": only_or_all(written)}
        outputs = double.predict(signature, rows(request["instances"], infos))
        written = {name: write(array, name) for name, array in outputs.items()}
        return {"predictions": [only_or_all(dict(zip(written, row))) for row in zip(*written.values())]}


def refusal(message):
    return Refusal("INVALID_ARGUMENT", message)


def only_or_all(named):
    """An only value without its name."""
    return next(iter(named.values())) if len(named) == 1 else named


def is_object(value):
    return isinstance(value, dict) and set(value) != {"b64"}


def columns(inputs, infos):
    """Arrays by name from the columnar form."""
    if not is_object(inputs):
        if len(infos) > 1:
            raise refusal("inputs is a plain value/list, but expecting an object")
        inputs = dict.fromkeys(infos, inputs)
    for name in infos:
        if name not in inputs:
            raise refusal(f"Missing named input: {name} in 'inputs' object.")
    return {name: read(inputs[name], info.dtype) for name, info in infos.items()}


def rows(instances, infos):
    """Arrays by name from the row form, whose rows must have exactly the signature's keys."""
    if not isinstance(instances, list) or not instances:
        raise refusal("No values in 'instances' array")
    named = [instance if is_object(instance) else dict.fromkeys(infos, instance) for instance in instances]
    if len(infos) > 1 and not all(is_object(instance) for instance in instances):
        raise refusal("instances is a plain list, but expecting list of objects")
    for row in named:
        if set(row) != set(infos):
            raise refusal(f"JSON object: {row} keys must be equal to: {','.join(sorted(infos))}")
    return {name: read([row[name] for row in named], info.dtype) for name, info in infos.items()}


def read(value, dtype):
    """An array from nested lists of one length; JSON's types must be the dtype's own."""
    dtype, shape, level = tf.as_dtype(dtype), [], value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    leaves = [value]
    for size in shape:
        if not all(isinstance(leaf, list) and len(leaf) == size for leaf in leaves):
            raise refusal("Encountered list at unexpected size")
        leaves = [leaf for row in leaves for leaf in row]
    array = np.empty(len(leaves), dtype.as_numpy_dtype)
    array[:] = [read_leaf(leaf, dtype) for leaf in leaves]
    return array.reshape(shape)


def read_leaf(leaf, dtype):
    if dtype == tf.string and isinstance(leaf, dict):
        return base64.b64decode(leaf["b64"])
    wanted = {tf.string: str, tf.bool: bool}.get(dtype, int if dtype.is_integer else (int, float))
    if not isinstance(leaf, wanted) or (isinstance(leaf, bool) and dtype != tf.bool):
        raise refusal(f"JSON Value: {leaf!r} is not of expected type: {dtype.name}")
    return leaf.encode() if dtype == tf.string else leaf


def write(value, name):
    """Nested lists; the bytes of names that end in `_bytes` under the key `b64`."""
    if isinstance(value, np.ndarray):
        return [write(row, name) for row in value] if value.ndim else write(value[()], name)
    if isinstance(value, bytes):
        as_text = not name.endswith("_bytes")
        return value.decode(errors="surrogateescape") if as_text else {"b64": base64.b64encode(value).decode()}
    if isinstance(value, np.float32):
        return float(str(value))  # as few digits as tell it from its neighbours
    return value.item()
