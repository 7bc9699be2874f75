"""The interface of a protocol that the client needs, and the server and model that receive its requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from keras_attn.base.types import ArrayLike
from keras_attn.serving.tensor_specs import Arrays, SignatureDefJson, SignatureSpec


class Target(NamedTuple):
    """The server and the model that all requests of a client go to."""

    address: str
    model: str
    version: int | None

    def __str__(self) -> str:
        version = "" if self.version is None else f", version {self.version},"
        return f"model `{self.model}`{version} at {self.address}"


class Transport(Protocol):
    """Sends the requests of all threads over one protocol, gRPC or REST. All methods may raise a `ServingError`."""

    def predict(self, name: str, signature: SignatureSpec, arrays: Arrays, timeout: float) -> Mapping[str, ArrayLike]:
        """Returns the outputs of signature `name` by name, as arrays or nested lists."""
        ...

    def signature_defs(self, timeout: float) -> Mapping[str, SignatureDefJson]:
        """Returns the model's `SignatureDefMap` as JSON."""
        ...

    def states(self, timeout: float) -> list[str]:
        """Returns the names of the states of the model's versions."""
        ...

    def close(self) -> None:
        """Closes the connections."""
        ...
