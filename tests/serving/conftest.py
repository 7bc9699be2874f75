"""Servers for the tests of the client: the double, and TF Serving's own program where it is installed."""

import shutil
import subprocess
import threading

import pytest

from keras_attn.serving.client import Client
from tests.serving.served_texts import NAME, addresses_of, free_port, save

PROGRAM = "tensorflow_model_server"


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("served")
    save(directory)
    return directory


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="session")
def shared_double(model_directory):
    pytest.importorskip("tensorflow_serving.apis", reason="the server's messages need tensorflow-serving-api")
    from tests.serving.serving_double import ServingDouble

    with ServingDouble(model_directory, NAME) as server:
        yield server


@pytest.fixture
def double(shared_double):
    yield shared_double
    shared_double.delay = 0.0
    shared_double.forgive()


@pytest.fixture(scope="session")
def program(model_directory):
    """The addresses of TF Serving's own server."""
    if not shutil.which(PROGRAM):
        pytest.skip(f"{PROGRAM} is not on the PATH")
    ports = free_port(), free_port()
    options = [f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    model = [f"--model_name={NAME}", f"--model_base_path={model_directory}"]
    process = subprocess.Popen([PROGRAM, *options, *model], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    addresses = {"grpc": f"127.0.0.1:{ports[0]}", "rest": f"http://127.0.0.1:{ports[1]}"}
    try:
        with Client(addresses["rest"], NAME) as client:
            waiting = threading.Event()
            assert any(client.ready() or waiting.wait(0.5) for _ in range(120))
        yield addresses
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["double", PROGRAM])
def addresses(request):
    """The addresses of a server by protocol."""
    if request.param == PROGRAM:
        return request.getfixturevalue("program")
    return addresses_of(request.getfixturevalue("double"))


@pytest.fixture(params=["grpc", "rest"])
def protocol(request):
    return request.param


@pytest.fixture
def client(addresses, protocol):
    with Client(addresses[protocol], NAME) as client:
        yield client


@pytest.fixture
def faulty(double, protocol):
    """A client that knows the signatures already, of a double that fails on demand."""
    with Client(addresses_of(double)[protocol], NAME) as client:
        client.signatures()
        yield client
