"""The README's first command, small: data, training, both saved forms, readings, picture."""

import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import models
from keras_attn.text import Characters
from tests.serving.loader import check_in_loader

pytest.importorskip("babel")
pytest.importorskip("tensorflow_datasets")
import dates

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def reader():
    characters, digits = Characters("123. abc"), Characters("-0123456789")
    model = models.RNNSeq2Seq(characters.vocabulary_size, digits.vocabulary_size, size=7)
    head = model.get_layer("projection")
    head.bias.assign(
        np.where(np.arange(digits.vocabulary_size) == 0, -100.0, 0.0)
    )  # as a trained one never says padding
    return dates.DateReader(model, characters, digits)


def test_readings_are_the_likeliest_characters_one_after_the_other(reader):
    written = ["1. a 3", "2. b 21"]
    for text, reading in zip(written, reader.read(written), strict=True):
        source, target = reader.characters.tokenize([text]), [1]
        for _ in range(dates.MAX_LENGTH):
            logits = reader.model({"source": source, "target": tf.constant([target])})
            target.append(int(np.argmax(logits[0, -1])))
        assert reading == reader.digits.detokenize(target[1:]).numpy().decode()


def test_exact_match_counts_whole_readings(reader):
    readings = reader.read(["1. a 3", "2. b 21"])
    assert reader.exact_match((["1. a 3", "2. b 21"], [readings[0], "?"])) == 0.5


def test_pictures_of_what_the_decoder_looked_at(reader, tmp_path):
    pytest.importorskip("matplotlib")
    dates.draw_attention(reader, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"attention-{n}.png" for n in range(1, 5)]


# Every line that the command may print when its output is no terminal.
LINES = [
    r"making the data set dates/years_1800_to_2199/1\.0\.0 in .*",
    r"262,\d{3} pairs to train on, \d{3} characters, data after \d+ s",
    r"Epoch 1/1",
    r"2/2 - \d+s - \d+m?s/step - loss: \d\.\d{4} - val_exact_match: \S+",
    r"exact match on 14,\d{3} texts of unseen dates: 0\.\d\d% after \d+ s",
    r"the first 2,000 of them, (greedy|sampled|four beams): 0\.\d\d%",
    r"exported to .*/1",
    r".*/1: can be served",
    r"  ok    .*",
    r"reloaded \.keras and SavedModel agree on all texts",
    r".{40}  ->  .*  \(should be \d{4}-\d\d-\d\d\)",
    r"attention of the decoder: .*/attention-\*\.png",
    r"everything took \d+ s",
]


@pytest.mark.slow
def test_the_whole_command(tmp_path):
    small = ["--epochs", "1", "--steps", "2", "--batch-size", "16", "--size", "8"]
    folders = ["--out", str(tmp_path / "out"), "--data-dir", str(tmp_path / "data")]
    command = [sys.executable, dates.__file__, *small, *folders]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    output = done.stdout.decode()
    assert done.stderr.decode() == ""
    assert not re.findall(r"[\r\b\x1b]", output)
    unknown = [line for line in output.splitlines() if not any(re.fullmatch(known, line) for known in LINES)]
    assert unknown == []
    assert re.search(r"exact match on 14,\d\d\d texts of unseen dates: 0\.\d\d%", output)
    assert "1: can be served" in output and "reloaded .keras and SavedModel agree on all texts" in output
    assert check_in_loader(tmp_path / "out" / "1") == 4 + 4
    assert len(re.findall(r"^.+  ->  .*\(should be \d{4}-\d\d-\d\d\)$", output, re.MULTILINE)) == 10
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert {"model.keras", "1/saved_model.pb", "attention-4.png", "vocabularies.json"} <= written
    assert (tmp_path / "out" / "attention-1.png").read_bytes().startswith(b"\x89PNG")
    assert not keras.models.load_model(tmp_path / "out" / "model.keras").compiled


def test_help_is_worth_reading():
    command = [sys.executable, str(pathlib.Path(dates.__file__)), "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for option in ("--epochs", "--steps", "--batch-size", "--size", "--seed", "--out", "--data-dir", "--show"):
        assert option in text
    assert "default: 3" in " ".join(text.split())
