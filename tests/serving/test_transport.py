"""Both transports, gRPC and REST: retries, time limits, no server at the address."""

import pytest

from keras_attn.serving.client import Client
from keras_attn.serving.errors import DeadlineExceeded, ServerUnavailable
from tests.serving.served_texts import NAME, addresses_of, free_port

pytest.importorskip("tensorflow_serving", reason="the server's messages need tensorflow-serving-api")


pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("status", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_retries_until_it_works(faulty, double, status):
    before = double.requests
    double.fail(2, status)
    assert faulty.predict(["a"])["upper"].tolist() == ["A"]
    assert double.requests == before + 3


def test_large_requests_are_retried_too(faulty, double):
    double.fail(1)
    text = "x" * 5_000_000  # above gRPC's usual 4 MB for a message and 256 KiB for a repeatable one
    assert faulty.predict([text])["upper"].tolist() == [text.upper()]


@pytest.mark.parametrize("retries", [0, 1])
def test_retries_run_out(double, protocol, retries):
    with Client(addresses_of(double)[protocol], NAME, retries=retries) as client:
        client.signatures()
        before = double.requests
        double.fail(retries + 1)
        with pytest.raises(ConnectionError, match="`texts` at .* failed with UNAVAILABLE: refused on demand") as caught:
            client.predict(["a"])
        assert caught.type is ServerUnavailable
        assert double.requests == before + retries + 1
        assert client.predict(["a"])["upper"].tolist() == ["A"]


def test_nobody_there(protocol):
    address = f"127.0.0.1:{free_port()}"
    with Client(address if protocol == "grpc" else f"http://{address}", NAME, retries=1) as client:
        assert not client.ready()
        with pytest.raises(ServerUnavailable, match=f"The metadata of model `texts` at .*{address}") as caught:
            client.predict(["a"])
    assert caught.value.__cause__ is not None


def test_deadline(faulty, double):
    double.delay = 0.6
    with pytest.raises(TimeoutError, match="Signature `serving_default` of .*DEADLINE_EXCEEDED") as caught:
        faulty.predict(["a"], timeout=0.2)
    assert caught.type is DeadlineExceeded
    assert caught.value.__cause__ is not None
    double.delay = 0.0
    assert faulty.predict(["a"])["upper"].tolist() == ["A"]


def test_deadline_of_the_client(double, protocol):
    double.delay = 0.6
    with Client(addresses_of(double)[protocol], NAME, timeout=0.2) as client:
        assert not client.ready()
        with pytest.raises(DeadlineExceeded, match="The metadata of"):
            client.signatures()
