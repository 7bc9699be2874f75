"""From a trained model to one that TF Serving runs: export, check, and a client."""

from keras_attn.serving.checking import CheckReport, check
from keras_attn.serving.client import Client
from keras_attn.serving.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    ServingError,
)
from keras_attn.serving.exporting import export

__all__ = [
    "CheckReport",
    "Client",
    "DeadlineExceeded",
    "InvalidRequest",
    "ModelNotFound",
    "ServerUnavailable",
    "ServingError",
    "check",
    "export",
]
