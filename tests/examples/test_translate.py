"""The translation example: resumed to the same losses, told what it cannot train on, on replicas and workers."""

import csv
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import devices
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import data, training
from tests.serving.loader import check_in_loader

tfds = pytest.importorskip("tensorflow_datasets")
import translate  # noqa: E402

pytestmark = pytest.mark.tensorflow

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = """
    --layers 1 --size 8 --heads 2 --hidden 13 --vocabulary 40 --max-length 30 --row 30 --tokens 120 --buckets 2
    --warmup 5 --beams 2 --bleu-pairs 3 --average 2 --policy float32 --epochs 2
""".split()  # noqa: SIM905 - a command line reads better than a list
WORDS = {"um": "one", "dois": "two", "gato": "cat", "vê": "sees", "grande": "big", "casa": "house", "o": "the"}
KILLED_IN_THE_SECOND_EPOCH = """
import os, signal, sys
import translate

class Killed(translate.Figures):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)

translate.Figures = Killed
translate.main(sys.argv[1:])
"""
ON_TWO_REPLICAS = """
import sys
import tensorflow as tf
import translate

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
translate.finish = lambda checkpoints, *_: print(len(checkpoints), "checkpoints")
translate.main(sys.argv[1:])
"""
ONE_OF_TWO_WORKERS = """
import json, sys
import translate

rows = []

class Seen(translate.data.FollowEpochs):
    def _arrays(self):
        for inputs, labels in super()._arrays():
            rows.extend(inputs["source"].tolist() if self.epoch == 1 else [])
            yield inputs, labels

translate.data.FollowEpochs = Seen
translate.finish = lambda checkpoints, *_: None
translate.main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump(rows, file)
"""


def lines(number, seed=0):
    rng = np.random.default_rng(seed)
    texts = [rng.choice(list(WORDS), rng.integers(1, 7)) for _ in range(number)]
    return ["\t".join((" ".join(words), " ".join(WORDS[word] for word in words))) for words in texts]


@pytest.fixture
def tsv(tmp_path):
    """The arguments for small files of pairs, three lines of which are broken."""
    good = lines(90)
    broken = [*good[:40], "no tab", *good[40:], "\tempty source", "sem alvo\t"]
    for name, content in (("train", broken), ("validation", lines(6, seed=1))):
        (tmp_path / f"{name}.tsv").write_text("\n".join(content) + "\n", encoding="utf-8")
    return ["--tsv", str(tmp_path / "train.tsv"), "--validation-tsv", str(tmp_path / "validation.tsv")]


@pytest.fixture
def environment(monkeypatch):
    """What processes of their own need to import the example."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "examples")]))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


def history(out):
    with (out / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_killed_training_has_the_losses_of_one_that_was_not_and_broken_lines_are_told(
    tmp_path, tsv, environment, monkeypatch, capfd
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(translate, "finish", lambda *_: None)
        translate.main([*TINY, *tsv, "--out", str(whole)])
    printed = capfd.readouterr().out
    assert "93 lines read, 90 kept, 3 left out" in printed
    for line in ("line 41, broken line: 1 of 2", "line 92, empty source", "line 93, empty target"):
        assert line in printed
    assert "90 pairs" in printed and "batches of 1 shapes" in printed

    arguments = [*TINY, *tsv, "--out", str(out)]
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_SECOND_EPOCH, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["00001.weights.h5"]
    assert "Epoch 2/2" in capfd.readouterr().out
    translate.main(arguments)
    printed = capfd.readouterr().out
    assert "1 epochs done" in printed and "Epoch 1/2" not in printed and "Epoch 2/2" in printed

    curve, resumed = history(whole), history(out)
    assert [row["epoch"] for row in resumed] == ["0", "1"]
    for name in ("loss", "val_loss", "learning_rate"):
        np.testing.assert_allclose(*([float(row[name]) for row in rows] for rows in (resumed, curve)), rtol=1e-6)
    assert len({row["loss"] for row in curve}) == 2
    assert "2 checkpoints averaged: BLEU" in printed and "of 3 texts" in printed
    assert check_in_loader(re.search(r"^(.+/1): can be served$", printed, re.MULTILINE)[1]) > 3
    assert "reloaded .keras and SavedModel agree on all texts" in printed
    assert printed.count("  ->  ") == 3

    with pytest.raises(ValueError, match="contains a training with tokens=120; remove .* to start again. .*tokens=99"):
        translate.main([*arguments, "--tokens", "99"])


@pytest.mark.slow
def test_any_translation_set_of_tfds_in_buckets(tmp_path, monkeypatch, capfd):
    finished = []
    monkeypatch.setattr(translate, "finish", lambda *given: finished.append(given))
    arguments = [*TINY, "--layout", "bucketed", "--epochs", "1", "--bleu-every", "1", "--out", str(tmp_path / "out")]
    with tfds.testing.mock_data(num_examples=29):
        translate.main(arguments)
    printed = capfd.readouterr().out
    assert "29 pairs" in printed and "batches of 2 shapes" in printed
    [row] = history(tmp_path / "out")
    assert float(row["loss"]) > 0 and 0 <= float(row["val_bleu"]) <= 100
    [(checkpoints, tokenizers, texts, _)] = finished
    assert len(checkpoints) == 1 and [len(side) for side in texts] == [3, 3]
    assert all(len(tokenizer.tokens) > 4 for tokenizer in tokenizers)


@pytest.mark.slow
def test_on_two_replicas(tmp_path, tsv, environment):
    out = tmp_path / "out"
    options = ["--layout", "bucketed", "--policy", "mixed_bfloat16", "--bleu-every", "1", "--out", str(out)]
    command = [sys.executable, "-c", ON_TWO_REPLICAS, *TINY, *tsv, *options, "--devices", "CPU:0", "CPU:1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "2 replicas" in done.stdout and done.stdout.endswith("2 checkpoints\n"), done.stderr[-2000:]
    losses = [float(row["loss"]) for row in history(out)]
    assert losses[1] < losses[0]
    assert float(history(out)[0]["val_bleu"]) >= 0


def free_ports(number):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
def test_two_workers_train_on_disjoint_rows(tmp_path, tsv, environment):
    out, seen = tmp_path / "out", [tmp_path / f"{worker}.json" for worker in range(2)]
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    workers = []
    for worker in range(2):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": worker}})
        arguments = [*TINY, *tsv, "--bleu-every", "2", "--out", str(out)]
        command = [sys.executable, "-c", ONE_OF_TWO_WORKERS, str(seen[worker]), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        workers.append(subprocess.Popen(command, env={**os.environ, "TF_CONFIG": config}, **pipes))
    try:
        printed = [process.communicate(timeout=500)[0] for process in workers]
    finally:
        for process in workers:
            process.kill()
    assert [process.returncode for process in workers] == [0, 0], printed[0][-2000:] + printed[1][-2000:]
    losses = [float(row["loss"]) for row in history(out)]
    assert losses[1] < losses[0] and "2 replicas" in printed[0] and "Epoch" not in printed[1]
    assert [row["val_bleu"] == "nan" for row in history(out)] == [True, False]
    rows = [[tuple(row) for row in json.loads(path.read_text()) if any(row)] for path in seen]
    assert not set(rows[0]) & set(rows[1])
    assert sum(row.count(2) for side in rows for row in side) == 90  # every pair once


@pytest.mark.parametrize(
    "config, place",
    [
        ("{}", (1, 0)),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}', (1, 0)),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}', (2, 1)),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}', (2, 0)),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 1}}', (3, 2)),
    ],
)
def test_tf_config_says_which_worker_this_is_and_how_to_train(monkeypatch, config, place):
    monkeypatch.setenv("TF_CONFIG", config)
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: "several workers")
    assert devices.place_among_workers() == place
    several = place[0] > 1
    strategy = devices.new_strategy(None, place[0])
    assert strategy == "several workers" if several else strategy is tf.distribute.get_strategy()


def test_without_a_file_for_validation_every_fiftieth_line_is_held_out(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(["broken", *(f"a{number}\tb{number}" for number in range(2, 151))]))
    train, held_out = translate.pairs_of(translate.parse_arguments(["--tsv", str(path)]))
    assert translate.texts_of(held_out) == [["a50", "a100", "a150"], ["b50", "b100", "b150"]]
    assert len(translate.texts_of(train)[0]) == 146
    reports = [data.Report("line") for _ in range(2)]
    for part, report in zip((train, held_out), reports, strict=True):
        list(part.read(report))
    assert [report.num_dropped for report in reports] == [1, 0]  # told once


def test_data_without_a_pair_are_refused_with_their_lines(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("no tab\n\tno source\n")
    with pytest.raises(ValueError, match=r"(?s)at least one pair of two texts.*2 lines read.*line 1, broken line"):
        translate.texts_of(data.Tsv(path))


def test_a_small_file_needs_another_one_for_validation(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\n" * 49)
    with pytest.raises(ValueError, match="Every 50th line of --tsv is for validation, and none .*--validation-tsv"):
        translate.pairs_of(translate.parse_arguments(["--tsv", str(path)]))


def test_a_start_that_failed_does_not_hold_the_folder_and_tokenizers_do(tmp_path, tsv):
    out = ["--out", str(tmp_path / "out")]
    with pytest.raises(FileNotFoundError):
        translate.main([*TINY, "--tsv", str(tmp_path / "typo.tsv"), *tsv[2:], *out])
    assert not (tmp_path / "out").exists()
    arguments = translate.parse_arguments([*TINY, *tsv, *out])
    translate.kept_tokenizers(arguments.out, lambda: (["ab ba"] * 3, ["cd dc"] * 3), arguments, makes=True)
    with pytest.raises(ValueError, match="contains a training with tokens=120; remove .*out to start again"):
        translate.main([*TINY, *tsv, *out, "--tokens", "99"])


def test_tokenizers_are_made_once(tmp_path):
    arguments = translate.parse_arguments(["--vocabulary", "20", "--max-length", "5"])
    made = translate.kept_tokenizers(tmp_path, lambda: (["ab ba"] * 3, ["cd dc"] * 3), arguments, makes=True)
    again = translate.kept_tokenizers(tmp_path, None, arguments, makes=True)
    assert [each.tokens for each in again] == [each.tokens for each in made]
    assert made[0].tokens != made[1].tokens
    assert made[0].tokenize(["ab ba ab ba"]).shape[1] <= 5


def test_translations_come_in_the_order_of_the_texts(tmp_path, rng):
    arguments = translate.parse_arguments([*TINY, "--max-length", "7"])
    sides = [side.split("\t") for side in lines(30)]
    tokenizers = translate.kept_tokenizers(tmp_path, lambda: zip(*sides, strict=True), arguments, makes=True)
    model = translate.new_model(tokenizers, arguments)
    model.set_weights([rng.normal(size=w.shape) if w.ndim > 1 else w for w in model.get_weights()])
    texts = ["o gato", "um", "dois gato vê casa", "", "vê"]
    one_by_one = [translate.translate(model, tokenizers, [text], arguments)[0] for text in texts]
    assert translate.translate(model, tokenizers, texts, arguments, batch_size=2) == one_by_one
    assert len(set(one_by_one)) > 1
    score = translate.bleu(model, tokenizers, (texts, one_by_one), arguments)
    assert score == training.bleu(one_by_one, one_by_one)


@pytest.mark.parametrize("option", ["--epochs 0", "--average 0", "--tokens x", "--dropout 1"])
def test_arguments_are_checked_at_the_door(option, capsys):
    with pytest.raises(SystemExit):
        translate.parse_arguments(option.split())
    assert re.search(r"must be an integer of at least 1|must be a number in \[0, 1\)", capsys.readouterr().err)


def test_a_workers_rows_are_dealt_to_its_replicas():
    class Workers:
        def distribute_datasets_from_function(self, function):
            return function(None)

    batches = tf.data.Dataset.from_tensor_slices(
        ({"source": np.arange(24).reshape(3, 4, 2)}, np.arange(12).reshape(3, 4, 1))
    )
    parts = devices.dealt(batches, Workers(), num_replicas=2)
    assert parts.cardinality() == 6
    parts = list(parts.as_numpy_iterator())
    assert all(inputs["source"].shape == (2, 2) and labels.shape == (2, 1) for inputs, labels in parts)
    assert np.concatenate([inputs["source"] for inputs, _ in parts]).tolist() == np.arange(24).reshape(12, 2).tolist()
    assert np.concatenate([labels for _, labels in parts]).ravel().tolist() == list(range(12))
