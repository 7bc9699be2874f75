"""The classification example: a user's own Keras model with our layers in it, trained, scored and exported."""

import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from tests.serving.loader import check_in_loader

pytest.importorskip("babel")
pytest.importorskip("tensorflow_datasets")
import classify
import dates_dataset
from date_templates import LOCALES

pytestmark = pytest.mark.tensorflow

SMALL = dates_dataset.DatesConfig(name="small", first_year=1987, last_year=1988, description="Small.")


def test_it_stays_short():
    assert len(pathlib.Path(classify.__file__).read_text(encoding="utf-8").splitlines()) < 80


def test_padding_changes_no_answer(rng):
    model = classify.new_model(num_characters=13, size=8)
    ids = rng.integers(1, 13, (3, 7))
    padded = np.pad(ids, ((0, 0), (0, 4)))
    np.testing.assert_allclose(model(padded), model(ids), atol=1e-6)
    assert np.allclose(np.sum(model(ids), axis=-1), 1, atol=1e-6)


@pytest.mark.slow
def test_the_whole_command(tmp_path, monkeypatch, capsys):
    def load(split, data_dir):
        return dates_dataset.load(split, data_dir, config=SMALL)

    monkeypatch.setattr(classify, "load", load)
    models = []
    new_model = classify.new_model
    monkeypatch.setattr(classify, "new_model", lambda *sizes: models.append(new_model(*sizes)) or models[-1])
    out = tmp_path / "out"
    classify.main(f"--epochs 1 --size 8 --limit 300 --out {out} --data-dir {tmp_path / 'data'}".split())
    printed = capsys.readouterr().out
    languages = json.loads((out / "languages.json").read_text(encoding="utf-8"))
    assert languages == sorted({locale[:3].rstrip("_") for locale in LOCALES})
    found = re.search(
        r"language of (\d+) unseen dates among (\d+): correct (.+)%, among the five most probable (.+)%", printed
    )
    assert int(found[2]) == len(languages) and 0 <= float(found[3]) <= float(found[4]) <= 100
    assert "1: can be served" in printed and printed.count("  ->  ") == len(classify.SHOWN)
    assert check_in_loader(out / "1") == len(classify.SHOWN)

    train = load("train", str(tmp_path / "data")).take(300)
    characters = classify.Characters(sorted({letter for row in train for letter in row["source"].numpy().decode()}))
    signature = tf.saved_model.load(str(out / "1")).signatures["serving_default"]
    texts = ["12 mars 1987", "?", "", "1 May 1988"]
    served = signature(source=tf.constant(texts))["languages"]
    np.testing.assert_allclose(served, models[0](characters(texts)), atol=1e-5)
