"""The files of examples/serving: they parse, name models that ship, and the client's script runs against them."""

import pathlib
import re
import subprocess
import sys

import pytest
from google.protobuf import text_format

from tests.serving.exports import folder
from tests.serving.serving_double import ServingDouble

pytestmark = pytest.mark.tensorflow

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "examples" / "serving"


def test_the_model_config_names_models_that_ship():
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2").ModelServerConfig()
    text_format.Parse((HERE / "models.config").read_text(), config)
    for model in config.model_config_list.config:
        assert model.base_path == f"/models/{model.name}"
        assert (ROOT / "savedmodels" / model.name / "1" / "saved_model.pb").exists()


def test_the_compose_file_and_the_manifest_mount_what_they_name():
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((HERE / "docker-compose.yml").read_text())["services"]["serving"]
    for flag in compose["command"]:
        file = re.fullmatch(r"--\w+=/config/(.+)", flag)
        assert file is None or (HERE / file[1]).exists()
    for volume in compose["volumes"]:
        assert (HERE / volume.split(":")[0]).is_dir()
    deployment, service = yaml.safe_load_all((HERE / "kubernetes.yml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == compose["image"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_what_can_end_a_server_is_not_configured():
    """Neither padding nor batch sizes to be filled up."""
    named = re.findall(r"^(\w+)", (HERE / "batching.config").read_text(), re.MULTILINE)
    assert sorted(named) == ["batch_timeout_micros", "max_batch_size", "max_enqueued_batches", "num_batch_threads"]
    for name in ("docker-compose.yml", "kubernetes.yml"):
        lines = [line for line in (HERE / name).read_text().splitlines() if not line.lstrip().startswith("#")]
        assert "batching" not in "".join(lines), "requests of strangers must not share a batch"


@pytest.mark.slow
def test_the_script_asks_and_says_what_is_wrong():
    with ServingDouble(folder("rnn").parent, "pronounce") as server:
        command = [sys.executable, str(HERE / "ask.py"), server.rest_address]
        run = subprocess.run(command, capture_output=True, text=True)
    assert re.search(r"^ +attention  ->  .*  \(log probability -\d+\.\d\d\)$", run.stdout, re.MULTILINE)
    assert run.returncode == 1 and "dates" in run.stderr, "the double serves one model only"
