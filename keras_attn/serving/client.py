"""A client of a model server, TF Serving or one with the same protocols, over gRPC or REST."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from types import TracebackType

from keras_attn.base.checks import check_number
from keras_attn.base.types import ArrayLike
from keras_attn.serving.errors import (
    MERGE_CONFLICT,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    ServingError,
)
from keras_attn.serving.tensor_specs import (
    Arrays,
    SignatureSpec,
    TensorSpec,
    decode_output,
    empty_outputs,
    encode_inputs,
    parse_signatures,
)
from keras_attn.serving.transport import Target, Transport

__all__ = ["Client", "DeadlineExceeded", "InvalidRequest", "ModelNotFound", "ServerUnavailable", "ServingError"]

_MAX_RETRIES = 4  # gRPC never makes more than five attempts
_MAX_VERSION = 2**63 - 1


class Client:
    """Sends requests to a served model: lists and arrays in, arrays out.

    Before a request is sent, it is checked against the signatures that the server reports: names,
    dtypes, ranks, sizes, equal numbers of rows, and no rows of zero elements. A batch without rows
    is answered by the client itself. Any number of threads may share a client. A request is repeated,
    after 0.1 s, 0.2 s, 0.4 s and so on, if the server is overloaded, restarting or not there, or if
    it batches without padding and merged the request with a request of another shape.

    Args:
        address: `"host:8500"` for gRPC; `"http://host:8501"` or `"https://..."` for REST.
        model: The model's name.
        version: Its version; None lets the server choose.
        timeout: Seconds after which a request fails. Over gRPC they include retries; over REST each
            retry has its own.
        retries: How often a request is repeated, at most 4.

    Raises:
        ImportError: For a gRPC address, if `tensorflow-serving-api` is not installed.

    Example:
    >>> from keras_attn.serving.client import Client
    >>> with Client("localhost:8500", "translator") as client:  # doctest: +SKIP
    ...     client.predict(["Guten Morgen!"])["text"]
    array(['Good morning!'], dtype=object)
    """

    def __init__(
        self, address: str, model: str, version: int | None = None, timeout: float = 10.0, retries: int = 3
    ) -> None:
        _check_text("address", address)
        _check_text("model", model)
        if version is not None:
            check_number("version", version, int, at_least=0, at_most=_MAX_VERSION)
        _check_timeout(timeout)
        check_number("retries", retries, int, at_least=0, at_most=_MAX_RETRIES)
        self.timeout, self._retries = timeout, retries
        self._target = Target(address, model, version)
        self._transport: Transport | None = _open_transport(self._target, retries)
        self._signatures: dict[str, SignatureSpec] | None = None

    def predict(
        self,
        inputs: Mapping[str, ArrayLike] | ArrayLike,
        signature: str = "serving_default",
        timeout: float | None = None,
    ) -> Arrays:
        """Returns a signature's outputs for a batch of inputs.

        Args:
            inputs: Dictionary from input to array or nested lists; a list or an array is enough where
                the signature has one input. Strings may be `str` or `bytes`.
            signature: Name of the signature.
            timeout: Seconds; the client's own by default.

        Returns:
            Dictionary from output to array: numbers in the signature's dtype, strings as objects of
            `str` with U+FFFD in place of bytes that are not UTF-8.

        Raises:
            InvalidRequest: A `ValueError`: no such signature, or inputs that do not fit it.
            ModelNotFound: A `LookupError`: no such model or version.
            ServerUnavailable: A `ConnectionError`: no answer, or only refusals, after all retries;
                also if the server merged the request with others of another shape each time.
            DeadlineExceeded: A `TimeoutError`: no answer in time.
            ServingError: Any other error that the server reports; the base class of the above.

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
            outputs = self._send(signature, spec, arrays, timeout)
            self._check_outputs(signature, outputs, spec["outputs"])
        except InvalidRequest:
            self._signatures = None  # the server may have loaded a version with other signatures
            raise
        return {name: decode_output(outputs[name], wanted) for name, wanted in spec["outputs"].items()}

    def signatures(self) -> dict[str, SignatureSpec]:
        """Returns the specs of the model's signatures, requested from the server once.

        Returns:
            Dictionary from signature to `{"inputs": {name: (dtype, shape)}, "outputs": ...}`: dtypes as
            names, shapes as tuples with None for free sizes, or None for a free rank.

        Raises:
            ServingError: One of its subclasses, as for `predict`.

        Example:
        >>> client.signatures()["serving_default"]["inputs"]  # doctest: +SKIP
        {'text': TensorSpec(dtype='string', shape=(None,))}
        """
        return self._known_signatures(self.timeout)

    def ready(self) -> bool:
        """Returns whether the server has loaded the model and accepts requests for it.

        Raises:
            ServingError: For any error other than that the server or the model is not there yet.

        Example:
        >>> client.ready()  # doctest: +SKIP
        True
        """
        try:
            return "AVAILABLE" in self._open().states(self.timeout)
        except (ModelNotFound, ServerUnavailable, DeadlineExceeded):
            return False

    def close(self) -> None:
        """Closes the connection; later requests raise a `RuntimeError`."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Transport:
        if self._transport is None:
            raise RuntimeError(f"The client of {self._target} is closed.")
        return self._transport

    def _send(self, signature: str, spec: SignatureSpec, arrays: Arrays, timeout: float) -> Mapping[str, ArrayLike]:
        """Returns the server's answer; repeats a request that was merged with one of another shape."""
        end, left = time.monotonic() + timeout, timeout
        attempt = 0
        while True:
            try:
                return self._open().predict(signature, spec, arrays, left)
            except ServerUnavailable as error:
                wait = random.uniform(0, 0.1 * 2**attempt)  # so that they are not merged again
                left = end - time.monotonic() - wait
                if error.status != MERGE_CONFLICT or attempt == self._retries or left <= 0:
                    raise
                time.sleep(wait)
                attempt += 1

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return self.timeout
        _check_timeout(timeout)
        return timeout

    def _known_signatures(self, timeout: float) -> dict[str, SignatureSpec]:
        transport, signatures = self._open(), self._signatures  # another thread may reset them at any time
        if signatures is None:
            signatures = self._signatures = parse_signatures(transport.signature_defs(timeout))
        return signatures

    def _check_outputs(self, signature: str, outputs: Mapping[str, ArrayLike], specs: Mapping[str, TensorSpec]) -> None:
        if set(outputs) != set(specs):
            self._signatures = None
            raise ServingError(
                f"Signature `{signature}` of {self._target} must return {sorted(specs)}, as the server reported "
                f"before. Received: {sorted(outputs)}. If it has loaded another version, repeat the request."
            )

    def _signature(self, name: str, timeout: float) -> SignatureSpec:
        signatures = self._known_signatures(timeout)
        if name not in signatures:
            known = ", ".join(f"`{known}`" for known in signatures)
            raise InvalidRequest(f"`signature` must be one of {known} for {self._target}. Received: {name!r}.")
        return signatures[name]


def _open_transport(target: Target, retries: int) -> Transport:
    """Returns the transport for the address; imports only the packages that it needs."""
    if target.address.startswith(("http://", "https://")):
        from keras_attn.serving.rest_transport import RestTransport

        return RestTransport(target, retries)
    from keras_attn.serving.grpc_transport import GrpcTransport

    return GrpcTransport(target, retries)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{name}` must be a string that is not empty. Received: {name}={value!r}.")


def _check_timeout(timeout: float) -> None:
    check_number("timeout", timeout, must="be a positive number of seconds", above=0)
