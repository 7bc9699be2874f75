"""Each status of a server raises its own error, over both protocols, and is not retried."""

import pytest

from keras_attn.serving.errors import InvalidRequest, ModelNotFound, ServingError

pytest.importorskip("tensorflow_serving", reason="the server's messages need tensorflow-serving-api")


pytestmark = pytest.mark.tensorflow


def test_refused_by_the_server(client):
    with pytest.raises(InvalidRequest, match="Signature `weigh` of model `texts` at .* failed with ") as caught:
        client.predict({"ids": [[1], [-2]], "weights": [1.0, 2.0]}, signature="weigh")
    assert caught.value.status == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("INTERNAL", ServingError),
        ("NOT_FOUND", ModelNotFound),
        ("INVALID_ARGUMENT", InvalidRequest),
    ],
)
def test_other_failures_are_not_retried(faulty, double, status, kind):
    before = double.requests
    double.fail(1, status)
    with pytest.raises(ServingError, match=f"failed with {status}: refused on demand") as caught:
        faulty.predict(["a"])
    assert caught.type is kind
    assert caught.value.status == status
    assert double.requests == before + 1


def test_failures_pass_on_what_ready_cannot_tell(faulty, double):
    double.fail(1, "INTERNAL")
    with pytest.raises(ServingError, match="The status of model"):
        faulty.ready()
