"""A client of a model server, TF Serving or one that speaks as it does, over gRPC or REST."""

import itertools
import random
import time
from typing import NamedTuple

from keras_attn.base.checks import check_number
from keras_attn.serving.errors import (
    MERGE_CONFLICT,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    ServingError,
)
from keras_attn.serving.tensor_specs import decode_output, empty_outputs, encode_inputs, parse_signatures

__all__ = ["Client", "DeadlineExceeded", "InvalidRequest", "ModelNotFound", "ServerUnavailable", "ServingError"]

_MAX_RETRIES = 4  # gRPC makes five attempts at most, whatever the configuration says
_MAX_VERSION = 2**63 - 1


class Target(NamedTuple):
    """Whom all requests of a client go to."""

    address: str
    model: str
    version: int | None

    def __str__(self):
        version = "" if self.version is None else f", version {self.version},"
        return f"model `{self.model}`{version} at {self.address}"


class Client:
    """Asks a served model, with lists and arrays in and arrays out.

    Requests are checked against the signatures that the server reports, before they are sent:
    names, dtypes, ranks, sizes, equal numbers of rows, and no rows of zero elements. A batch
    without rows is answered without the server. One client serves any number of threads. Servers
    that are overloaded, restarting or not there are asked again, after 0.1 s, 0.2 s, 0.4 s and so
    on; so are those that batch without padding and merged the request with one of another shape.

    Args:
        address: `"host:8500"` for gRPC; `"http://host:8501"` or `"https://..."` for REST.
        model: The model's name.
        version: Its version; None leaves the choice to the server.
        timeout: Seconds until a request is given up. Over gRPC retries count; over REST each has its own.
        retries: How often a request is repeated, at most 4.

    Raises:
        ImportError: If gRPC is asked for and `tensorflow-serving-api` is not installed.

    Example:
    >>> from keras_attn.serving.client import Client
    >>> with Client("localhost:8500", "translator") as client:  # doctest: +SKIP
    ...     client.predict(["Guten Morgen!"])["text"]
    array(['Good morning!'], dtype=object)
    """

    def __init__(self, address, model, version=None, timeout=10.0, retries=3):
        _check_text("address", address)
        _check_text("model", model)
        if version is not None:
            check_number("version", version, int, at_least=0, at_most=_MAX_VERSION)
        _check_timeout(timeout)
        check_number("retries", retries, int, at_least=0, at_most=_MAX_RETRIES)
        self.timeout, self._retries = timeout, retries
        self._target = Target(address, model, version)
        self._transport = _open_transport(self._target, retries)
        self._signatures = None

    def predict(self, inputs, signature="serving_default", timeout=None):
        """Returns a signature's outputs for a batch of inputs.

        Args:
            inputs: Dictionary from input to array or nested lists; where the signature has one input,
                a list or array does. Strings may be `str` or `bytes`.
            signature: Name of the signature.
            timeout: Seconds, instead of the client's own.

        Returns:
            Dictionary from output to array: numbers in the signature's dtype, strings as objects of
            `str` with U+FFFD in place of what is not UTF-8.

        Raises:
            InvalidRequest: A `ValueError`: no such signature, or inputs that do not fit it.
            ModelNotFound: A `LookupError`: no such model or version.
            ServerUnavailable: A `ConnectionError`: no answer, or only refusals, after all retries;
                also where the server's batching met requests of other shapes each time.
            DeadlineExceeded: A `TimeoutError`: no answer in time.
            ServingError: Anything else that the server reports; the base of the above.

        Example:
        >>> client.predict({"ids": [[1, 5, 2]], "weights": [0.5]}, signature="score")  # doctest: +SKIP
        {'score': array([-1.25], dtype=float32)}
        """
        timeout = self._seconds(timeout)
        try:
            spec = self._signature(signature, timeout)
            arrays = encode_inputs(inputs, spec["inputs"], signature)
            if any(not len(array) for array in arrays.values()):
                return empty_outputs(spec["outputs"])
            outputs = self._ask(signature, spec, arrays, timeout)
            self._check_outputs(signature, outputs, spec["outputs"])
        except InvalidRequest:
            self._signatures = None  # the server may have taken up a version with other signatures
            raise
        return {name: decode_output(outputs[name], wanted) for name, wanted in spec["outputs"].items()}

    def signatures(self):
        """Returns what the model's signatures take and return, asked for once.

        Returns:
            Dictionary from signature to `{"inputs": {name: (dtype, shape)}, "outputs": ...}`, dtypes as
            names, shapes as tuples with None for free sizes, or None where the rank is free.

        Raises:
            ServingError: One of its subclasses, as for `predict`.

        Example:
        >>> client.signatures()["serving_default"]["inputs"]  # doctest: +SKIP
        {'text': TensorSpec(dtype='string', shape=(None,))}
        """
        return self._known_signatures(self.timeout)

    def ready(self):
        """Returns whether the server has the model loaded and takes requests for it.

        Raises:
            ServingError: Where the server reports anything but that it or the model is not there yet.

        Example:
        >>> client.ready()  # doctest: +SKIP
        True
        """
        try:
            return "AVAILABLE" in self._open().states(self.timeout)
        except (ModelNotFound, ServerUnavailable, DeadlineExceeded):
            return False

    def close(self):
        """Closes the connection; the client is of no use afterwards."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _open(self):
        if self._transport is None:
            raise RuntimeError(f"The client of {self._target} is closed.")
        return self._transport

    def _ask(self, signature, spec, arrays, timeout):
        """Returns a server's answer; a request that was merged with one of another shape is asked again."""
        end, left = time.monotonic() + timeout, timeout
        for attempt in itertools.count():
            try:
                return self._open().predict(signature, spec, arrays, left)
            except ServerUnavailable as error:
                wait = random.uniform(0, 0.1 * 2**attempt)  # not together with the other one again
                left = end - time.monotonic() - wait
                if error.status != MERGE_CONFLICT or attempt == self._retries or left <= 0:
                    raise
                time.sleep(wait)

    def _seconds(self, timeout):
        if timeout is None:
            return self.timeout
        _check_timeout(timeout)
        return timeout

    def _known_signatures(self, timeout):
        transport, signatures = self._open(), self._signatures  # another thread may forget them meanwhile
        if signatures is None:
            signatures = self._signatures = parse_signatures(transport.signature_defs(timeout))
        return signatures

    def _check_outputs(self, signature, outputs, specs):
        if set(outputs) != set(specs):
            self._signatures = None
            raise ServingError(
                f"Signature `{signature}` of {self._target} must return {sorted(specs)}, as the server said before. "
                f"Received: {sorted(outputs)}. Where it has taken up another version meanwhile, ask again."
            )

    def _signature(self, name, timeout):
        signatures = self._known_signatures(timeout)
        if name not in signatures:
            known = ", ".join(f"`{known}`" for known in signatures)
            raise InvalidRequest(f"`signature` must be one of {known} for {self._target}. Received: {name!r}.")
        return signatures[name]


def _open_transport(target, retries):
    """Returns the transport that the address asks for; the packages of the other are not needed."""
    if target.address.startswith(("http://", "https://")):
        from keras_attn.serving.rest_transport import RestTransport

        return RestTransport(target, retries)
    from keras_attn.serving.grpc_transport import GrpcTransport

    return GrpcTransport(target, retries)


def _check_text(name, value):
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{name}` must be a string that is not empty. Received: {name}={value!r}.")


def _check_timeout(timeout):
    check_number("timeout", timeout, must="be a positive number of seconds", above=0)
