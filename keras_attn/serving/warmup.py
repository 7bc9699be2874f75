"""Warm-up: requests that a server answers before it accepts others, stored with the answers at the export."""

from __future__ import annotations

import os
import pathlib
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message

from keras_attn.base.optional import optional_module
from keras_attn.base.types import ArrayLike
from keras_attn.serving.endpoints import Endpoints, Tensors
from keras_attn.serving.generation import GenerationEndpoints
from keras_attn.serving.tensor_specs import Arrays

FILE = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"
MOST_REQUESTS = 1000  # more would stop the server from loading the model


class Request(NamedTuple):
    """One request of a signature.

    Attributes:
        signature: Its name.
        inputs: Arrays by the names of the inputs.
    """

    signature: str
    inputs: Arrays


def warmup_requests(endpoints: Endpoints, examples: Sequence[ArrayLike | Mapping[str, ArrayLike]]) -> list[Request]:
    """Returns the requests of examples, each checked, or none without examples.

    Each example is a separate request. The endpoints may add requests of their other signatures.

    Raises:
        ValueError: For examples that do not fit `serving_default`, or too many.
    """
    if not examples:
        return []
    serving_api()
    inputs = endpoints.all()[0].inputs
    rows = [example_row(example, inputs) for example in examples]
    requests = [Request("serving_default", {name: value[None] for name, value in row.items()}) for row in rows]
    requests += [Request(*request) for request in endpoints.requests_like(rows)]
    if len(requests) > MOST_REQUESTS:
        raise ValueError(
            f"`warmup` must give at most {MOST_REQUESTS} requests. Received: {len(examples)} examples, which are "
            f"{len(requests)} requests."
        )
    return requests


def example_row(example: ArrayLike | Mapping[str, ArrayLike], inputs: Sequence[tf.TensorSpec]) -> Arrays:
    """Returns an example as a dictionary of arrays without a batch axis, checked against the inputs' specifications."""
    row = example if isinstance(example, dict) else {inputs[0].name: example}
    if sorted(row) != sorted(spec.name for spec in inputs):
        raise ValueError(
            f"An example of `warmup` must have the inputs {[spec.name for spec in inputs]}. "
            f"Received: {sorted(row) if isinstance(example, dict) else reprlib.repr(example)}."
        )
    return {spec.name: example_array(row[spec.name], spec) for spec in inputs}


def example_array(value: ArrayLike, spec: tf.TensorSpec) -> np.ndarray:
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


def write_warmup(
    folder: pathlib.Path,
    model_name: str,
    requests: Sequence[Request],
    endpoints: Endpoints,
    functions: Mapping[str, tf.types.experimental.PolymorphicFunction],
) -> None:
    """Writes requests and their answers in TF Serving's format; sampled answers are left out.

    Args:
        folder: Of the SavedModel.
        model_name: Under which it will be served.
        requests: From `warmup_requests`.
        endpoints: Of the model.
        functions: The functions of the signatures by name, before they are saved.
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


def completed(
    request: Request,
    endpoints: Endpoints,
    functions: Mapping[str, tf.types.experimental.PolymorphicFunction],
) -> Request:
    """Returns a request with the inputs that only the model can compute: what to score, and the ids of texts."""
    signature, inputs = request
    if not isinstance(endpoints, GenerationEndpoints):
        return request
    source = [tf.constant(inputs[spec.name], spec.dtype) for spec in endpoints.all()[0].inputs]
    if signature == "score":
        target = functions["serving_default"](*source)["target"].numpy()
        lengths = np.full(len(target), target.shape[-1], "int32") if target.ndim == 2 else None
        given = {"target": target, "target_length": lengths}
        names = (spec.name for spec in endpoints.named("score").inputs)
        return Request(signature, inputs | {name: given[name] for name in names if name in given})
    if signature == "generate":
        read = endpoints.read(*source)
        rows = len(read.ids)
        given = {
            "source": read.ids.numpy(),
            "source_length": read.lengths.numpy(),
            "max_length": np.full(rows, endpoints.config.max_length, "int32"),
            "temperature": np.zeros(rows, "float32"),
        }
        return Request(signature, {spec.name: given[spec.name] for spec in endpoints.named(signature).inputs})
    return request


def log_of(model_name: str, request: Request, answer: Tensors) -> Message:
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


def read_warmup(folder: str | os.PathLike[str]) -> Iterator[tuple[Request, Arrays]]:
    """Yields each request of a SavedModel's warm-up file and its answer."""
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


def serving_api() -> ModuleType:
    """Returns the module of the warm-up file's protocol buffers, from an optional package."""
    return optional_module("tensorflow_serving.apis.prediction_log_pb2", "serving")
