"""The errors of a request to a model server: one class for each possible reaction of a caller."""

from __future__ import annotations


class ServingError(Exception):
    """A request to a model server failed.

    Args:
        message: What was requested from which server, and its answer.
        status: Name of the gRPC status, also over REST.
    """

    def __init__(self, message: str, status: str = "UNKNOWN") -> None:
        super().__init__(message)
        self.status = status


class InvalidRequest(ServingError, ValueError):  # noqa: N818
    """The request does not fit the model: change the request."""

    def __init__(self, message: str, status: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message, status)


class ModelNotFound(ServingError, LookupError):  # noqa: N818
    """The server has no such model, or no such version of it."""


class ServerUnavailable(ServingError, ConnectionError):  # noqa: N818
    """No server at the address, or it is still overloaded or starting after all retries."""


class DeadlineExceeded(ServingError, TimeoutError):  # noqa: N818
    """No answer in time."""


MERGE_CONFLICT = "ABORTED"
_CONFLICT_TEXT = "from different tasks have different shapes"  # of a server that batches without padding
_CLASSES: dict[str, type[ServingError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "FAILED_PRECONDITION": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "NOT_FOUND": ModelNotFound,
    "ABORTED": ServerUnavailable,
    "UNAVAILABLE": ServerUnavailable,
    "RESOURCE_EXHAUSTED": ServerUnavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}


def error_of(status: str, request: str, answer: object) -> ServingError:
    """Returns the error for a status.

    Args:
        status: Name of the gRPC status.
        request: What was requested from which server.
        answer: What came back.

    Example:
    >>> from keras_attn.serving.errors import error_of
    >>> error_of("NOT_FOUND", "The status of model `m` at localhost:8500", "no such model")
    ModelNotFound('The status of model `m` at localhost:8500 failed with NOT_FOUND: no such model')
    """
    status = MERGE_CONFLICT if _CONFLICT_TEXT in str(answer) else status
    return _CLASSES.get(status, ServingError)(f"{request} failed with {status}: {answer}", status)
