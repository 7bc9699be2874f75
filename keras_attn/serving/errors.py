"""What a request to a model server can fail with: one class per thing that a caller can do about it."""


class ServingError(Exception):
    """A model server did not do what it was asked.

    Args:
        message: What was asked of which server, and what it said.
        status: Name of the status in gRPC's vocabulary, whichever protocol was spoken.
    """

    def __init__(self, message, status="UNKNOWN"):
        super().__init__(message)
        self.status = status


class InvalidRequest(ServingError, ValueError):  # noqa: N818
    """The request does not fit the model: change the request."""

    def __init__(self, message, status="INVALID_ARGUMENT"):
        super().__init__(message, status)


class ModelNotFound(ServingError, LookupError):  # noqa: N818
    """The server has no such model, or no such version of it."""


class ServerUnavailable(ServingError, ConnectionError):  # noqa: N818
    """No server at the address, or one that is overloaded or starting, also after retries."""


class DeadlineExceeded(ServingError, TimeoutError):  # noqa: N818
    """No answer in time."""


MERGE_CONFLICT = "ABORTED"
_CONFLICT_TEXT = "from different tasks have different shapes"  # of a server that batches without padding
_CLASSES = {
    "INVALID_ARGUMENT": InvalidRequest,
    "FAILED_PRECONDITION": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "NOT_FOUND": ModelNotFound,
    "ABORTED": ServerUnavailable,
    "UNAVAILABLE": ServerUnavailable,
    "RESOURCE_EXHAUSTED": ServerUnavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}


def error_of(status, asked, said):
    """Returns the error for a status.

    Args:
        status: Name of the status in gRPC's vocabulary.
        asked: What was asked of which server.
        said: What came back.

    Example:
    >>> from keras_attn.serving.errors import error_of
    >>> error_of("NOT_FOUND", "The status of model `m` at localhost:8500", "no such model")
    ModelNotFound('The status of model `m` at localhost:8500 failed with NOT_FOUND: no such model')
    """
    status = MERGE_CONFLICT if _CONFLICT_TEXT in str(said) else status
    return _CLASSES.get(status, ServingError)(f"{asked} failed with {status}: {said}", status)
