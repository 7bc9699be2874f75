"""`SentencePiece` loads, trains and checks models."""

import gc
import io
import pathlib

import keras
import numpy as np
import pytest

from keras_attn.text import SentencePiece

from .corpus import CORPUS, TEXTS, round_trip

sentencepiece = pytest.importorskip("sentencepiece")

pytestmark = pytest.mark.tensorflow


def test_sentencepiece_from_a_file_and_from_bytes(trained):
    path = trained[SentencePiece]._asset_path
    for model in (path, pathlib.Path(path), pathlib.Path(path).read_bytes()):
        np.testing.assert_array_equal(SentencePiece(model).tokenize(TEXTS), trained[SentencePiece].tokenize(TEXTS))
    assert round_trip(trained[SentencePiece], ["the 日本 cat", "日"]) == ["the \ufffd cat", "\ufffd"]


def test_sentencepiece_outlives_the_caches_of_tensorflow(trained):
    before = trained[SentencePiece].tokenize(TEXTS)
    twin = SentencePiece(trained[SentencePiece]._asset_path)
    twin.tokenize(TEXTS)
    del twin
    gc.collect()
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(trained[SentencePiece].tokenize(TEXTS), before)


def test_sentencepiece_models_are_checked(trained, tmp_path):
    ids = "`model` must be a SentencePiece model with the ids 0 padding, 1 start, 2 end, 3 unknown"
    for options in ({}, {"pad_id": 0, "bos_id": 2, "eos_id": 1, "unk_id": 3}, {"bos_id": -1, "eos_id": -1}):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=model,
            vocab_size=67,
            hard_vocab_limit=False,
            minloglevel=2,
            **options,
        )
        with pytest.raises(ValueError, match=ids):
            SentencePiece(model.getvalue())
    for model in (b"", b"garbage"):
        with pytest.raises(ValueError, match=ids):
            SentencePiece(model)
    for model in (tmp_path / "none.model", 7):
        with pytest.raises(ValueError, match="`model` must be the path of a SentencePiece model or its bytes"):
            SentencePiece(model)
    with pytest.raises(ValueError, match=r"No model can be trained: .*Vocabulary size is smaller.*vocabulary_size=7"):
        SentencePiece().adapt(CORPUS, vocabulary_size=7, verbose=0)


def test_sentencepiece_learns_from_long_texts():
    tokenizer = SentencePiece()
    tokenizer.adapt(["the cat and the dog " * 500], vocabulary_size=23, verbose=0)
    assert round_trip(tokenizer, ["the dog"]) == ["the dog"]
