"""The trained models that ship: whole, small, served by TF Serving's loader, and as good as their cards say."""

import hashlib
import pathlib
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import decoding, serving, training
from tests.serving.loader import check_in_loader

pytestmark = pytest.mark.tensorflow

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


def test_all_files_together_are_small():
    files = [file for name in MODELS for file in folder(name).rglob("*") if file.is_file()]
    kept = (folder(name).parent / file for name in MODELS for file in ("model.keras", "vocabularies.json", "README.md"))
    assert sum(file.stat().st_size for file in [*files, *kept] if file.exists()) < 25_000_000


def keras_model(name):
    """The Keras model that ships beside a SavedModel, as the card says how to go on with it."""
    path = folder(name).parent / "model.keras"
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not there")
    model = keras.models.load_model(path)
    if name == "pronounce":
        pronounce = pytest.importorskip("pronounce")
        sizes = (model.get_layer(f"{side}_embedding").input_dim for side in ("source", "target"))
        trained = pronounce.new_model(*sizes, pronounce.parse_arguments(["--dropout", "0"]))
        pronounce.copy_weights(model, trained)
        return trained
    return model


@each_model
@pytest.mark.slow
def test_anyone_can_train_the_keras_model_further(name, rng):
    model = keras_model(name)
    source, target = rng.integers(3, 13, (8, 5)), rng.integers(3, 13, (8, 4))  # texts that it has never seen
    inputs = {"source": source, "target": np.concatenate([np.ones((8, 1), "int64"), target[:, :-1]], axis=1)}
    model.compile(keras.optimizers.Adam(1e-3), training.MaskedCrossentropy(), jit_compile=False)
    losses = [model.train_on_batch(inputs, target) for _ in range(3)]  # of the weights after 0, 1 and 2 steps
    assert losses[2] < losses[1] < losses[0]


@each_model
@pytest.mark.slow
def test_the_keras_model_says_what_the_saved_model_says(name):
    path = folder(name).parent / "model.keras"
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not there")
    ids = np.array([[4, 7, 9, 2], [5, 6, 2, 0]], "int32")
    score = tf.saved_model.load(str(folder(name))).signatures["generate"]
    options = {"max_length": tf.constant([8, 8]), "temperature": tf.constant([0.0, 0.0])}
    served = score(source=tf.constant(ids), **options)["tokens"].numpy()[:, 0]
    strategy = decoding.Beam(4) if name == "pronounce" else decoding.Greedy()
    found = keras.models.load_model(path).generate(ids, strategy, max_length=8).tokens[:, 0].numpy()
    width = max(served.shape[1], found.shape[1])
    padded = [np.pad(tokens, [(0, 0), (0, width - tokens.shape[1])]) for tokens in (served, found)]
    np.testing.assert_array_equal(*padded)
