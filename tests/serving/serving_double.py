"""A stand-in for a model server: both of its protocols over loopback, and faults on demand."""

import concurrent.futures

import grpc
import pytest
import tensorflow as tf

pytest.importorskip("tensorflow_serving.apis", reason="the server's messages need tensorflow-serving-api")
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving import serving_double_rest
from tests.serving.served_model import Refusal, ServedModel

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]


class ServingDouble(ServedModel):
    """Serves the newest version of a model over gRPC and REST, in the `with` statement.

    Args:
        model_directory: The model's folder, with a SavedModel in each integer folder.
        name: The name it is served under.

    Attributes:
        grpc_address: For gRPC, `host:port`.
        rest_address: For REST, `http://host:port`.
    """

    def __enter__(self):
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(8), options=UNLIMITED)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(self), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self), self._grpc)
        self.grpc_address = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self._grpc.start()
        self._rest = serving_double_rest.start(self)
        self.rest_address = f"http://127.0.0.1:{self._rest.server_address[1]}"
        return self

    def __exit__(self, *exception):
        self.release()
        self._rest.shutdown()
        self._rest.server_close()
        self._grpc.stop(grace=None).wait()


def _received(double, request, context, answer):
    """Returns an answer, or ends the call with the status that it was refused with."""
    spec = request.model_spec
    try:
        double.receive()
        double.check_model(spec.name, spec.version.value if spec.HasField("version") else None)
        return answer()
    except Refusal as refusal:
        context.abort(grpc.StatusCode[refusal.status], str(refusal))


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, double):
        self._double = double

    def Predict(self, request, context):  # noqa: N802
        return _received(self._double, request, context, lambda: self._predict(request))

    def _predict(self, request):
        signature = request.model_spec.signature_name or "serving_default"
        for name, info in self._double.inputs_of(signature).items():
            if name in request.inputs and request.inputs[name].dtype != info.dtype:
                raise Refusal("INVALID_ARGUMENT", f"{name} has dtype {request.inputs[name].dtype}, not {info.dtype}")
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        for name, array in self._double.predict(signature, arrays).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        return _received(self._double, request, context, self._metadata)

    def _metadata(self):
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(self._double.metadata())
        return response


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, double):
        self._double = double

    def GetModelStatus(self, request, context):  # noqa: N802
        return _received(self._double, request, context, self._double.status)
