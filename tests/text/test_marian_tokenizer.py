"""`MarianTokenizer` gives the ids and texts of `transformers.MarianTokenizer`."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.base.special_ids import SpecialIds
from keras_attn.text import MarianTokenizer

from . import marian_files

pytest.importorskip("sentencepiece", reason="the models are trained here")
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("marian")
    marian_files.write(path)
    return path


@pytest.fixture(scope="module")
def theirs(folder):
    transformers = pytest.importorskip("transformers")
    return transformers.MarianTokenizer(*(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")))


def ours_of(folder, side, **options):
    return MarianTokenizer(folder / f"{side}.spm", folder / "vocab.json", **options)


@pytest.mark.parametrize("side", ["source", "target"])
def test_ids_and_texts_are_equal(folder, theirs, side):
    texts = marian_files.texts()
    assert len(texts) == 13_000
    ours = ours_of(folder, side, max_length=None)
    ids = ours.ragged(texts)
    expected = theirs(texts) if side == "source" else theirs(text_target=texts)
    assert ids.to_list() == expected["input_ids"]
    decoded = [text.decode() for text in ours.detokenize(ids).numpy()]
    assert decoded == theirs.batch_decode(ids.to_list(), skip_special_tokens=True)
    ids = np.random.default_rng(7).integers(0, ours.vocabulary_size, [2_000, 23])
    decoded = [text.decode() for text in ours.detokenize(ids).numpy()]
    assert decoded == theirs.batch_decode(ids.tolist(), skip_special_tokens=True)


def test_rows_are_truncated_and_padded_alike(folder, theirs):
    texts = ["the cat sat on the mat and read", "", ">>fra<< def"]
    ours = ours_of(folder, "source", max_length=5)
    expected = theirs(texts, padding=True, truncation=True, max_length=5)["input_ids"]
    assert ours(texts).numpy().tolist() == expected
    assert ours.special_ids == SpecialIds(2, 2, 0, 1)
    assert ours.ragged_prompt(["def"]).to_list()[0][0] == 2
    assert ours.tokens[:3] == ["</s>", "<unk>", "<pad>"] and len(ours.tokens) == ours.vocabulary_size
    given = SpecialIds(2, 2, 0, 1)
    prefixed = ours_of(folder, "source", prefix=">>fra<< ", special_ids=given, special_tokens=["</s>", "<pad>"])
    assert prefixed.ragged(["def"]).to_list() == theirs([">>fra<< def"])["input_ids"]
    assert prefixed.detokenize([[1, 0]]).numpy()[0] == b"<unk>"


def test_copies_have_their_files(folder, tmp_path):
    texts = ["the cat", ">>fra<< (((a)))", "\U00013000"]
    for side in ("source", "target"):
        tokenizer = ours_of(folder, side, max_length=7, prefix=">>deu<< ")
        inputs = keras.Input((), dtype="string")
        keras.Model(inputs, tokenizer(inputs)).save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras").layers[1]
        np.testing.assert_array_equal(loaded(texts), tokenizer(texts))
        assert (loaded.prefix, loaded.max_length, loaded.tokens) == (">>deu<< ", 7, tokenizer.tokens)
        np.testing.assert_array_equal(loaded.detokenize(loaded(texts)), tokenizer.detokenize(tokenizer(texts)))


def test_graphs_have_no_foreign_operations(folder, tmp_path):
    tokenizer = ours_of(folder, "source")
    texts = ["the cat sat", ">>fra<< def", "", "x" * 99]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def call(texts):
        ids = tokenizer.tokenize(texts)
        return ids, tokenizer.detokenize(ids)

    types = {node.type for node in call.get_concrete_function().graph.get_operations()}
    assert not [kind for kind in types if "Xla" in kind or "PyFunc" in kind]
    archive = keras.export.ExportArchive()
    archive.track(tokenizer)
    archive.add_endpoint("serve", call)
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    assert [path.name for path in (tmp_path / "saved" / "assets").iterdir()] == ["marian.json"]
    ids, decoded = tf.saved_model.load(str(tmp_path / "saved")).serve(tf.constant(texts))
    np.testing.assert_array_equal(ids, tokenizer(texts))
    np.testing.assert_array_equal(decoded, tokenizer.detokenize(tokenizer(texts)))


def test_errors(folder):
    ids = json.loads((folder / "vocab.json").read_text("utf-8"))
    model = (folder / "source.spm").read_bytes()
    with pytest.raises(ValueError, match=re.escape("`vocabulary` must be the path of a vocab.json, or the ids by")):
        MarianTokenizer(model)
    with pytest.raises(ValueError, match="`model` must be the path of a SentencePiece model or its bytes"):
        MarianTokenizer("none.spm", ids)
    with pytest.raises(ValueError, match="`vocabulary` must have one token for each id. Received: several for one"):
        MarianTokenizer(model, {**ids, "twice": 3})
    some = {token: number for token, number in ids.items() if token != "<pad>"}
    with pytest.raises(ValueError, match=re.escape("`special_ids` must be given for a vocabulary without ['<pad>']")):
        MarianTokenizer(model, some)
    with pytest.raises(ValueError, match=re.escape("`special_tokens` must be in `vocabulary`. Received: ['<none>']")):
        MarianTokenizer(model, ids, special_tokens=["<none>"])
    with pytest.raises(ValueError, match="`prefix` must be a string. Received: prefix=7"):
        MarianTokenizer(model, ids, prefix=7)
    with pytest.raises(ValueError, match="`MarianTokenizer` has no vocabulary yet"):
        MarianTokenizer().tokenize(["a"])
