"""A model server over gRPC, with the server's own messages (package `tensorflow-serving-api`)."""

from __future__ import annotations

import json
import types
from collections.abc import Callable

import grpc
import tensorflow as tf
from google.protobuf import json_format
from google.protobuf.message import Message

from keras_attn.base.optional import optional_module
from keras_attn.serving.errors import error_of
from keras_attn.serving.tensor_specs import Arrays, SignatureDefJson, SignatureSpec
from keras_attn.serving.transport import Target

_APIS = (
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_service_pb2_grpc",
)


class GrpcTransport:
    """Requests over one channel, which all threads share.

    Args:
        target: The `Target` of all requests.
        retries: How often gRPC repeats a request to a server that is unavailable or overloaded.

    Raises:
        ImportError: Without `tensorflow-serving-api`.
    """

    def __init__(self, target: Target, retries: int) -> None:
        self._target = target
        self._apis = _import_apis()
        self._channel = grpc.insecure_channel(target.address, options=_channel_options(retries))
        self._prediction = self._apis.prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = self._apis.model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, name: str, signature: SignatureSpec, arrays: Arrays, timeout: float) -> Arrays:
        """Returns the outputs of signature `name` by name, as arrays."""
        request = self._apis.predict_pb2.PredictRequest()
        request.model_spec.signature_name = name
        for key, array in arrays.items():
            dtype = signature["inputs"][key].dtype
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array, dtype=dtype, shape=array.shape))
        response = self._send(self._prediction.Predict, request, timeout, f"Signature `{name}` of")
        return {key: tf.make_ndarray(tensor) for key, tensor in response.outputs.items()}

    def signature_defs(self, timeout: float) -> dict[str, SignatureDefJson]:
        """Returns the model's `SignatureDefMap` as JSON."""
        apis = self._apis.get_model_metadata_pb2
        request = apis.GetModelMetadataRequest(metadata_field=["signature_def"])
        response = self._send(self._prediction.GetModelMetadata, request, timeout, "The metadata of")
        signature_defs = apis.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signature_defs)
        return json_format.MessageToDict(signature_defs, preserving_proto_field_name=True)["signature_def"]

    def states(self, timeout: float) -> list[str]:
        """Returns the names of the states of the model's versions."""
        request = self._apis.get_model_status_pb2.GetModelStatusRequest()
        response = self._send(self._models.GetModelStatus, request, timeout, "The status of")
        state_name = self._apis.get_model_status_pb2.ModelVersionStatus.State.Name
        return [state_name(version.state) for version in response.model_version_status]

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _send(self, method: Callable[..., Message], request: Message, timeout: float, what: str) -> Message:
        request.model_spec.name = self._target.model
        if self._target.version is not None:
            request.model_spec.version.value = self._target.version
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise error_of(error.code().name, f"{what} {self._target}", error.details()) from error


def _import_apis() -> types.SimpleNamespace:
    modules = {name: optional_module(f"tensorflow_serving.apis.{name}", "serving") for name in _APIS}
    return types.SimpleNamespace(**modules)


def _channel_options(retries: int) -> list[tuple[str, str | int]]:
    policy = {
        "maxAttempts": retries + 1,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]} if retries else {}
    return [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_retries", int(retries > 0)),
        ("grpc.per_rpc_retry_buffer_size", 2**30),  # by default, requests above 256 KiB are not repeated
        ("grpc.initial_reconnect_backoff_ms", 100),  # by default, attempts within a second fail without being sent
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
    ]
