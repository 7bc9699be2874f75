"""Warm-up: requests that a server answers before it takes others, kept with the answers that they should get."""

import pathlib
import reprlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_attn.base.optional import optional_module
from keras_attn.serving.generation import GenerationEndpoints

FILE = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"
MOST_REQUESTS = 1000  # more would stop the server from loading the model
BATCH_SIZE = 2  # of the examples that are asked together; a server may allow few rows


class Request(NamedTuple):
    """One request of a signature.

    Attributes:
        signature: Its name.
        inputs: Arrays by the names of the inputs.
    """

    signature: str
    inputs: dict[str, Any]


def warmup_requests(endpoints, examples):
    """Returns the requests of examples, each checked, or none without examples.

    Each example is asked on its own; of a model that generates, the first ones are asked together
    of every other signature too, those for XLA left out.

    Raises:
        ValueError: For examples that do not fit `serving_default`, or too many.
    """
    if not examples:
        return []
    serving_api()
    inputs = endpoints.all()[0].inputs
    rows = [row_of(example, inputs) for example in examples]
    requests = [Request("serving_default", {name: value[None] for name, value in row.items()}) for row in rows]
    if isinstance(endpoints, GenerationEndpoints):
        first = stacked([row["source"] for row in rows[:BATCH_SIZE]], endpoints.special_ids.filler)
        requests += [
            Request(each.name, {"source": first}) for each in endpoints.all() if not each.name.endswith("_xla")
        ]
    if len(requests) > MOST_REQUESTS:
        raise ValueError(
            f"`warmup` must give at most {MOST_REQUESTS} requests. Received: {len(examples)} examples, which are "
            f"{len(requests)} requests."
        )
    return requests


def row_of(example, inputs):
    """Returns an example as a dictionary of arrays without a batch axis, checked against the inputs' specifications."""
    row = example if isinstance(example, dict) else {inputs[0].name: example}
    if sorted(row) != sorted(spec.name for spec in inputs):
        raise ValueError(
            f"An example of `warmup` must have the inputs {[spec.name for spec in inputs]}. "
            f"Received: {sorted(row) if isinstance(example, dict) else reprlib.repr(example)}."
        )
    return {spec.name: checked(row[spec.name], spec) for spec in inputs}


def checked(value, spec):
    """Returns one input of an example as an array of the specification's type and shape."""
    dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
    is_text = isinstance(value, (str, bytes))
    array = None if is_text != (dtype is object and spec.shape.rank == 1) else np.asarray(value)
    whole = array is None or dtype is object or np.issubdtype(dtype, np.inexact) or array.dtype.kind in "iub"
    if array is None or (not whole and array.size) or not spec.shape[1:].is_compatible_with(array.shape):
        wanted = "a string" if dtype is object else f"{spec.dtype.name} of the shape {spec.shape[1:].as_list()}"
        raise ValueError(
            f"An example of `warmup` must hold {wanted} for `{spec.name}`. Received: {reprlib.repr(value)}."
        )
    return array.astype(dtype)


def stacked(values, filler):
    """Returns strings, or rows of ids of any length, as one batch; `filler` behind the shorter rows."""
    if not values[0].shape:
        return np.array([value.item() for value in values], object)
    batch = np.full((len(values), max(map(len, values))), filler, values[0].dtype)
    for row, value in zip(batch, values, strict=True):
        row[: len(value)] = value
    return batch


def write_warmup(folder, model_name, requests, endpoints, functions):
    """Writes requests and their answers in TF Serving's format; sampled answers are left out.

    Args:
        folder: Of the SavedModel.
        model_name: Under which it will be served.
        requests: From `warmup_requests`.
        endpoints: Of the model.
        functions: The signatures by name, as they run before they are saved.
    """
    if not requests:
        return
    (folder / FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
        for request in requests:
            request = completed(request, endpoints, functions)
            tensors = [
                tf.constant(request.inputs[spec.name], spec.dtype) for spec in endpoints.named(request.signature).inputs
            ]
            answer = functions[request.signature](*tensors)
            answer = {} if request.signature == "serving_default" and endpoints.draws else answer
            writer.write(log_of(model_name, request, answer).SerializeToString())


def completed(request, endpoints, functions):
    """Returns a request with the inputs that need a look at the model: what to score, and the ids of texts."""
    signature, inputs = request
    if signature == "score":
        best = functions["serving_default"](tf.constant(inputs["source"]))
        return Request(signature, inputs | {"target": best["target"].numpy()})
    if signature == "generate":
        source = endpoints.read(tf.constant(inputs["source"])).numpy()
        rows = len(source)
        limits, temperature = np.full(rows, endpoints.config.max_length, "int32"), np.zeros(rows, "float32")
        return Request(signature, {"source": source, "max_length": limits, "temperature": temperature})
    return request


def log_of(model_name, request, answer):
    """Returns a `PredictionLog` of a request and its answer; the server reads the request only."""
    log = serving_api().PredictionLog()
    call = log.predict_log
    for part, tensors in ((call.request, request.inputs), (call.response, answer)):
        part.model_spec.name = model_name
        part.model_spec.signature_name = request.signature
        fields = part.inputs if part is call.request else part.outputs
        for name, value in tensors.items():
            fields[name].CopyFrom(tf.make_tensor_proto(value))
    return log


def read_warmup(folder):
    """Yields each request of a SavedModel's warm-up file and its answer, a dictionary of arrays."""
    path = pathlib.Path(folder) / FILE
    if not path.exists():
        return
    for record in tf.data.TFRecordDataset(str(path)):
        call = serving_api().PredictionLog.FromString(record.numpy()).predict_log
        inputs, answer = (
            {name: tf.make_ndarray(value) for name, value in tensors.items()}
            for tensors in (call.request.inputs, call.response.outputs)
        )
        yield Request(call.request.model_spec.signature_name, inputs), answer


def serving_api():
    """Returns the module of the warm-up file's protocol buffers, of an optional package."""
    return optional_module("tensorflow_serving.apis.prediction_log_pb2", "serving")
