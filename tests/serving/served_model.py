"""The model behind the stand-in for a model server: what both protocols ask of it, and faults on demand."""

import collections
import pathlib
import threading

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2


class Refusal(Exception):  # noqa: N818
    """A request answered with an error: a status by gRPC's name, and a message."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class ServedModel:
    """The newest version of a model, under a name.

    Args:
        model_directory: The model's folder, with a SavedModel in each integer folder.
        name: The name it is served under.

    Attributes:
        requests: How many requests came so far, refused ones included.
        delay: Seconds until requests are answered.
    """

    def __init__(self, model_directory, name):
        self.name, self.requests, self.delay = name, 0, 0.0
        self.version = max(int(path.name) for path in pathlib.Path(model_directory).iterdir() if path.name.isdigit())
        path = pathlib.Path(model_directory) / str(self.version)
        self._model = tf.saved_model.load(str(path))
        saved_model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        self._signature_defs = saved_model.meta_graphs[0].signature_def
        self._faults, self._lock, self._closing = collections.deque(), threading.Lock(), threading.Event()

    def fail(self, times, status="UNAVAILABLE", message="refused on demand"):
        """Refuses the next `times` requests with a status, by gRPC's name, and a message."""
        self._faults.extend([(status, message)] * times)

    def forgive(self):
        """Refuses nothing more on demand."""
        self._faults.clear()

    def release(self):
        """Answers at once whatever waits."""
        self._closing.set()

    def receive(self):
        """Counts a request, and holds it up or refuses it as told."""
        with self._lock:
            self.requests += 1
            fault = self._faults.popleft() if self._faults else None
        self._closing.wait(self.delay)
        if fault:
            raise Refusal(*fault)

    def check_model(self, name, version=None):
        """Refuses names and versions that are not served."""
        if name != self.name or version not in (None, self.version):
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise Refusal("NOT_FOUND", f"Servable not found for request: {which}")

    def metadata(self):
        """Returns the model's signatures."""
        return get_model_metadata_pb2.SignatureDefMap(signature_def=self._signature_defs)

    def status(self):
        """Returns the status of the one version served."""
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=self.version, state="AVAILABLE").status.error_code = 0
        return response

    def inputs_of(self, signature):
        """Returns the `TensorInfo` of a signature's inputs by name."""
        if signature not in self._signature_defs:
            raise Refusal("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def')
        return self._signature_defs[signature].inputs

    def predict(self, signature, arrays):
        """Returns a signature's outputs as arrays by name."""
        infos = self.inputs_of(signature)
        if set(arrays) != set(infos):
            raise Refusal("INVALID_ARGUMENT", f"Sent: {sorted(arrays)}. Inputs expected to be: {sorted(infos)}")
        for name, info in infos.items():
            if not tf.TensorShape(info.tensor_shape).is_compatible_with(arrays[name].shape):
                raise Refusal("INVALID_ARGUMENT", f"{name} has shape {arrays[name].shape}")
        try:
            tensors = {name: tf.constant(array, infos[name].dtype) for name, array in arrays.items()}
            return {name: output.numpy() for name, output in self._model.signatures[signature](**tensors).items()}
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise Refusal("INVALID_ARGUMENT", str(error)) from error
