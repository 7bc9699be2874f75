"""The trained models that ship: whole, small, served by TF Serving's loader, and as good as their cards say."""

import hashlib
import pathlib
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_attn import serving
from tests.serving.loader import check_in_loader

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))
MODELS = {"dates": 5_000_000, "pronounce": 15_000_000}  # bytes at most
SAMPLE = 600
each_model = pytest.mark.parametrize("name", MODELS)


def folder(name):
    return ROOT / "savedmodels" / name / "1"


def card(name):
    return (folder(name).parent / "README.md").read_text(encoding="utf-8")


def checksum(path):
    """The SHA-256 of the lines `sha256sum` prints for the files, sorted by name."""
    files = sorted(file.relative_to(path.parent).as_posix() for file in path.rglob("*") if file.is_file())
    lines = (f"{hashlib.sha256((path.parent / file).read_bytes()).hexdigest()}  {file}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def answers(name, texts):
    signature = tf.saved_model.load(str(folder(name))).signatures["serving_default"]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = [None] * len(texts)
    for start in range(0, len(texts), 200):
        rows = order[start : start + 200]
        for row, text in zip(rows, signature(source=tf.constant([texts[i] for i in rows]))["target"].numpy()):
            found[row] = text.decode()
    return found


def stated(name, what):
    """A share from the card, in percent."""
    return float(re.search(rf"\| {what}[^|]*\| (\d+\.\d+)% ", card(name))[1])


def assert_near(measured, said):
    """A sample's share may differ from that of all by four standard deviations of its size."""
    spread = 100 * np.sqrt(said / 100 * (1 - said / 100) / SAMPLE)
    assert abs(100 * measured - said) < 4 * spread + 0.1


@each_model
def test_the_files_are_those_of_the_card(name):
    size = sum(file.stat().st_size for file in folder(name).rglob("*") if file.is_file())
    assert size < MODELS[name]
    assert f"{size:,} bytes" in card(name)
    assert f"`{checksum(folder(name))}`" in card(name)
    for line in ("Data", "Licence", "Training command", "Training time", "Signatures"):
        assert f"| {line} |" in card(name)
    assert f"[{name}]({name}/README.md)" in (ROOT / "savedmodels" / "README.md").read_text(encoding="utf-8")


@each_model
@pytest.mark.slow
def test_it_can_be_served(name):
    report = serving.check(folder(name))
    assert report.ok, str(report)
    assert check_in_loader(folder(name)) >= 8
    signatures = tf.saved_model.load(str(folder(name))).signatures
    assert all(f"`{signature}`" in card(name) for signature in signatures)


@pytest.mark.slow
def test_dates_are_read_as_well_as_the_card_says(tmp_path):
    dates_dataset = pytest.importorskip("dates_dataset")
    pairs = dates_dataset.load("test", data_dir=str(tmp_path)).shuffle(20_000, seed=1).take(SAMPLE).batch(SAMPLE)
    [batch] = pairs.as_numpy_iterator()
    written, dates = ([text.decode() for text in batch[side]] for side in ("source", "target"))
    right = [found == date for found, date in zip(answers("dates", written), dates, strict=True)]
    assert_near(np.mean(right), stated("dates", "Exact match"))
    assert answers("dates", ["jeudi 12 mars 1987"]) == ["1987-03-12"]


@pytest.mark.slow
def test_words_are_pronounced_as_well_as_the_card_says(tmp_path):
    cmudict_dataset = pytest.importorskip("cmudict_dataset")
    rows = cmudict_dataset.load("test", "plain", str(tmp_path)).shuffle(12_000, seed=1).take(SAMPLE)
    words = {row["word"].numpy().decode(): [text.decode() for text in row["pronunciations"].numpy()] for row in rows}
    wrong = [found not in known for found, known in zip(answers("pronounce", list(words)), words.values(), strict=True)]
    assert_near(np.mean(wrong), stated("pronounce", "Word error"))
    assert answers("pronounce", ["attention", "Attention"]) == ["AH T EH N SH AH N"] * 2
