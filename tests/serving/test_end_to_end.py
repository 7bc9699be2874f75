"""From export to client: our SavedModels behind TF Serving's protocols, asked over loopback."""

import concurrent.futures

import numpy as np
import pytest
import requests

from keras_attn import serving
from tests.serving.exports import TEXTS, ask, folder
from tests.serving.serving_double import ServingDouble

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("tensorflow_serving.apis", reason="the extra `serving` is not installed")
    with ServingDouble(folder("rnn").parent, "rnn") as double:
        yield double


@pytest.fixture(params=["grpc", "rest"])
def client(request, server):
    address = server.grpc_address if request.param == "grpc" else server.rest_address
    with serving.Client(address, "rnn") as client:
        yield client


def test_clients_get_what_the_model_says(client):
    wanted = ask("rnn", source=TEXTS)
    answer = client.predict(TEXTS)
    assert answer["target"].tolist() == wanted["target"].tolist()
    np.testing.assert_allclose(answer["score"], wanted["score"], rtol=1e-5)
    rows = {"source": [[4, 5, 2]], "max_length": [3], "temperature": [0.0]}
    found = client.predict(rows, "generate")
    assert found["tokens"].shape == (1, 1, 7) and found["tokens"].dtype == np.int32 and found["lengths"][0, 0] <= 3
    scored = client.predict({"source": ["abc"], "target": ["AA"]}, "score")
    assert scored["attention_scores"].shape == (1, 2, 4) and scored["log_probability"][0] < 0
    assert client.predict(["abc"], "encode")["memory"].shape == (1, 4, 16)


def test_odd_texts_get_answers(client):
    for text in ("", "j" * 10_000, "日本語", b"\xff\xfe"):
        assert client.predict([text])["target"].shape == (1,)
    with pytest.raises(serving.InvalidRequest):
        client.predict({"text": ["abc"]})
    with pytest.raises(serving.InvalidRequest):
        client.predict([[1, 2, 3]])


def test_requests_at_a_time_do_not_mix(client):
    texts = ["abcdefghij"[:n] * 3 for n in range(10)]
    wanted = ask("rnn", source=texts)["target"].tolist()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda text: client.predict([text])["target"][0], texts))
    assert found == wanted


def test_rows_of_plain_json(server):
    """What `curl` sends: `instances`, a list of texts, or `inputs`."""
    url = f"{server.rest_address}/v1/models/rnn:predict"
    wanted = ask("rnn", source=["abc", ""])["target"].tolist()
    rows = requests.post(url, json={"instances": ["abc", ""]}, timeout=60).json()["predictions"]
    assert [row["target"] for row in rows] == wanted
    named = requests.post(url, json={"instances": [{"source": "abc"}, {"source": ""}]}, timeout=60).json()
    assert [row["target"] for row in named["predictions"]] == wanted
    columns = requests.post(url, json={"inputs": {"source": ["abc", ""]}}, timeout=60).json()["outputs"]
    assert columns["target"] == wanted
    assert requests.post(url, json={"instances": [{"text": "abc"}]}, timeout=60).status_code == 400
