"""The example that fine-tunes a pretrained encoder: small, from a folder that transformers wrote."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.serving.loader import check_in_loader

pytest.importorskip("babel")
pytest.importorskip("tensorflow_datasets")
pytest.importorskip("tensorflow_text")
import classify
import dates_dataset
import finetune

from keras_attn import pretrained

pytestmark = pytest.mark.tensorflow

SMALL = dates_dataset.DatesConfig(name="small", first_year=1987, last_year=1988, description="Small.")


@pytest.fixture
def folder(tmp_path):
    """A random BERT of letters."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789.,-"]
    words += [f"##{word}" for word in words[5:]]
    folder = tmp_path / "bert"
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=17
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    return folder


def test_it_stays_short():
    assert len(pathlib.Path(finetune.__file__).read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.slow
def test_an_adapted_encoder_is_saved_and_served(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(classify, "load", lambda split, data_dir: dates_dataset.load(split, data_dir, config=SMALL))
    out = tmp_path / "out"
    finetune.main(f"{folder} --limit 300 --rank 3 --out {out} --data-dir {tmp_path / 'data'}".split())
    printed = capsys.readouterr().out
    trained = re.search(r"bert: ([\d,]+) parameters, ([\d,]+) of them trained", printed)
    assert int(trained[2].replace(",", "")) < int(trained[1].replace(",", ""))
    assert "1: can be served" in printed and printed.count("  ->  ") == len(classify.SHOWN)
    assert check_in_loader(out / "1") == len(classify.SHOWN) + 1  # a request of `pair`
    served = tf.saved_model.load(str(out / "1")).signatures["serving_default"](text=tf.constant(classify.SHOWN))
    tokenizer = pretrained.load(folder, "hidden_states", max_length=64).source_text
    again = keras.saving.load_model(out / "model.keras", compile=False)
    scores = tf.nn.softmax(again({"source": tokenizer(classify.SHOWN)}))
    np.testing.assert_allclose(served["scores"], scores, atol=1e-5)
