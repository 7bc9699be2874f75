"""The training benchmark runs and prints what the README quotes."""

import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.tensorflow

SCRIPT = pathlib.Path(__file__).parent.parent.parent / "benchmarks" / "training.py"


@pytest.mark.slow
def test_the_training_benchmark_prints_ratios_to_padded_batches(tmp_path):
    tiny = ["--lengths", "ted", "--pairs", "1000", "--tokens", "256", "--positions", "204", "--buckets", "4"]
    tiny += ["--steps", "2", "--rounds", "1", "--layers", "1", "--size", "8", "--heads", "2"]
    command = [sys.executable, SCRIPT, *tiny, "--out", tmp_path / "figures.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines[-4:]] == ["ted", "padded", "bucketed", "packed"]
    assert lines[-3][3] == "1.00"
    figures = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["shapes"] for row in figures[1:]] == [4, 1]
    assert figures[0]["used"] < figures[1]["used"] < figures[2]["used"]
    assert all(row["rate"] > 0 and row["pipeline"] > 0 for row in figures)
