"""All tokenizers return the ids and texts of their contract: for any Unicode, in graphs, and after saving."""

import copy
import gc
import json
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn import text
from keras_attn.text import Characters, SentencePiece, Tokenizer, Words
from keras_attn.text.tokenizer import NUM_SPECIAL_IDS

from .corpus import (
    CLASSES,
    CORPUS,
    END_ID,
    PADDING_ID,
    START_ID,
    TEXTS,
    UNKNOWN_ID,
    each_class,
    round_trip,
    strings,
)

pytestmark = pytest.mark.tensorflow


@each_class
def test_rows_end_and_are_padded(kind, trained):
    tokenizer = trained[kind]
    ids, pieces = tokenizer.tokenize(TEXTS), tokenizer.pieces(TEXTS)
    assert isinstance(pieces, tf.RaggedTensor) and ids.dtype == pieces.dtype == tf.int32
    rows = pieces.to_list()
    width = max(map(len, rows)) + 1
    assert ids.numpy().tolist() == [row + [END_ID] + [PADDING_ID] * (width - 1 - len(row)) for row in rows]
    prompt = tokenizer.prompt(TEXTS).numpy().tolist()
    assert prompt == [[START_ID] + row + [PADDING_ID] * (width - 1 - len(row)) for row in rows]
    assert tokenizer.ragged(TEXTS).to_list() == [[*row, END_ID] for row in rows]
    assert tokenizer.ragged_prompt(TEXTS).to_list() == [[START_ID, *row] for row in rows]
    assert rows[1] == [] and all(UNKNOWN_ID <= i < tokenizer.vocabulary_size for row in rows for i in row)
    np.testing.assert_array_equal(tokenizer(TEXTS), ids)
    np.testing.assert_array_equal(tokenizer(tf.constant(TEXTS)), ids)
    np.testing.assert_array_equal(tokenizer.tokenize(np.array(TEXTS)), ids)


@each_class
def test_texts_come_back(kind, trained):
    tokenizer = trained[kind]
    assert round_trip(tokenizer, TEXTS[:3]) == TEXTS[:3]
    assert strings(tokenizer.detokenize(tokenizer.prompt(TEXTS[:3]))) == TEXTS[:3]
    assert strings(tokenizer.detokenize(tokenizer.pieces(TEXTS[:3]))) == TEXTS[:3]


@each_class
def test_tokens_are_in_the_order_of_their_ids(kind, trained):
    tokenizer = trained[kind]
    assert tokenizer.vocabulary_size == len(tokenizer.tokens) + NUM_SPECIAL_IDS <= 67
    assert len(set(tokenizer.tokens)) == len(tokenizer.tokens)
    ids = tokenizer.pieces(["the"]).to_list()[0]
    assert "".join(tokenizer.tokens[i - NUM_SPECIAL_IDS] for i in ids).replace("##", "").strip("▁") == "the"


@each_class
def test_ids_of_any_shape_and_value_are_read(kind, trained):
    tokenizer = trained[kind]
    word = tokenizer.pieces(["the"]).to_list()[0]
    noisy = [START_ID, PADDING_ID, *word, PADDING_ID, END_ID, *word]
    assert strings(tokenizer.detokenize(noisy)) == "the"
    assert strings(tokenizer.detokenize(np.array([[[noisy] * 3] * 2], "int64"))) == [[["the"] * 3] * 2]
    assert strings(tokenizer.detokenize(np.array([noisy], "uint8"))) == ["the"]
    outside = [[UNKNOWN_ID], [tokenizer.vocabulary_size], [-1], [2**31 - 1]]
    assert strings(tokenizer.detokenize(outside)) == ["\ufffd"] * 4
    assert tokenizer.detokenize(np.zeros((3, 0), "int32")).numpy().tolist() == [b""] * 3
    assert tokenizer.detokenize(np.zeros((0, 5), "int32")).shape == (0,)
    assert tokenizer.detokenize(np.zeros((2, 0, 5), "int32")).shape == (2, 0)


@each_class
def test_no_rows(kind, trained):
    for texts in ([], tf.zeros([0], tf.string)):
        assert trained[kind].tokenize(texts).shape[0] == trained[kind].prompt(texts).shape[0] == 0
        assert trained[kind].pieces(texts).to_list() == []


@each_class
def test_bytes_that_are_not_utf8(kind, trained):
    pieces = trained[kind].pieces([b"the \xff\xfe", b"\xe2\x82", "the"]).to_list()
    known = trained[kind].pieces(["the \ufffd\ufffd", "\ufffd", "the"]).to_list()
    assert pieces == known
    strange = [] if kind is SentencePiece else [UNKNOWN_ID]  # its normalisation makes spaces of U+FFFD
    assert pieces[1] == strange and [i for i in pieces[0] if i == UNKNOWN_ID][:1] == strange


@given(st.lists(st.binary(max_size=29), max_size=5))
@settings(max_examples=20, deadline=None)
def test_no_bytes_are_an_error(trained, texts):
    for tokenizer in trained.values():
        assert len(round_trip(tokenizer, texts)) == len(texts)


@each_class
def test_long_texts_are_cut(kind, trained):
    long = "the cat " * 1250
    short = kind(max_length=5)
    short.load_assets(pathlib.Path(trained[kind]._asset_path).parent)
    ids = short.tokenize([long, "the"])
    assert ids.shape == (2, 5) and ids[0, -1] == END_ID
    assert ids[0, :4].numpy().tolist() == short.pieces([long])[0, :4].numpy().tolist()
    assert short.prompt([long]).numpy()[0].tolist() == [START_ID, *short.pieces([long])[0, :4].numpy()]
    assert trained[kind].tokenize([long]).shape == (1, 512)
    unbound = kind(max_length=None)
    unbound.load_assets(pathlib.Path(trained[kind]._asset_path).parent)
    assert round_trip(unbound, [long])[0].strip() == long.strip()


@each_class
def test_lowercase(kind, trained):
    tokenizer = kind(lowercase=True)
    tokenizer.adapt([text.upper() for text in CORPUS], vocabulary_size=67, verbose=0)
    assert round_trip(tokenizer, ["THE Cat", "ÜNÏCODE"]) == ["the cat", "ünïcode"]


def test_lower_case_goes_past_nul():
    tokenizer = Characters("\0abcσςé i\u0307", lowercase=True)
    assert round_trip(tokenizer, ["A\0B\0", "\0", "ΣΑΣ"[2:] + "É", "İ"]) == ["a\0b\0", "\0", "σé", "i\u0307"]


@each_class
def test_graphs_have_a_free_batch_and_no_foreign_operations(kind, trained):
    tokenizer = trained[kind]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def there_and_back(texts):
        ids = tokenizer.tokenize(texts)
        assert ids.shape.as_list() == [None, None]
        return tokenizer.detokenize(ids)

    for texts in (TEXTS[:3], TEXTS[:1]):
        assert strings(there_and_back(tf.constant(texts))) == texts
    assert there_and_back(tf.zeros([0], tf.string)).shape == (0,)
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS).batch(3).map(tokenizer.tokenize)
    np.testing.assert_array_equal(next(iter(dataset)), tokenizer.tokenize(TEXTS[:3]))
    types = {node.type for node in there_and_back.get_concrete_function().graph.get_operations()}
    assert not [name for name in types if "Xla" in name or "PyFunc" in name]


@each_class
def test_adapting_again_replaces(kind):
    tokenizer = kind()
    tokenizer.adapt(["aaa bbb"] * 3, 31, verbose=0)
    tokenizer.adapt(["ccc ddd"] * 3, 31, verbose=0)
    assert not set("ab") & set("".join(tokenizer.tokens))
    assert round_trip(tokenizer, ["ccc ddd"]) == ["ccc ddd"]


@each_class
def test_errors(kind, trained):
    tokenizer, empty = trained[kind], kind()
    for use in (empty.tokenize, empty.prompt, empty.pieces):
        with pytest.raises(ValueError, match=rf"`{kind.__name__}` has no vocabulary yet: call `adapt\(dataset\)`"):
            use(["a"])
    for use in (lambda: empty.detokenize([4]), lambda: empty.tokens, lambda: empty.vocabulary_size):
        with pytest.raises(ValueError, match="has no vocabulary yet"):
            use()
    with pytest.raises(ValueError, match=r"`texts` must be strings\. Received: texts\.dtype=int32"):
        tokenizer([1, 2])
    with pytest.raises(ValueError, match=r"`texts` must be strings \[B\]\. Received: list"):
        tokenizer.tokenize(["a", ["b"]])
    for texts in ("a", [["a"]]):
        with pytest.raises(ValueError, match=r"`texts` must have 1 axes, \[B\]"):
            tokenizer.tokenize(texts)
    with pytest.raises(ValueError, match=r"`ids` must be integers\. Received: ids\.dtype=float32"):
        tokenizer.detokenize([[1.0]])
    with pytest.raises(ValueError, match=r"`ids` must be integers \[\.\.\., L\]\. Received: list"):
        tokenizer.detokenize([[1], [1, 2]])
    with pytest.raises(ValueError, match=r"`ids` must have at least one axis"):
        tokenizer.detokenize(4)
    for max_length in (1, 2.5, "7"):
        with pytest.raises(ValueError, match="`max_length` must be an integer of at least 2 or None"):
            kind(max_length=max_length)
    with pytest.raises(ValueError, match=r"`lowercase` must be True or False\. Received: lowercase=1"):
        kind(lowercase=1)


def test_base_class_names_what_is_missing(tmp_path):
    class Nothing(Tokenizer):
        pass

    path = tmp_path / Nothing.asset_name
    path.touch()
    for use in (
        lambda t: t.tokens,
        lambda t: t._encode(None),
        lambda t: t._decode(None),
        lambda t: t.load_assets(tmp_path),
    ):
        with pytest.raises(NotImplementedError, match="`Nothing` must define `"):
            use(Nothing())


@each_class
def test_configs_leave_the_vocabulary_out(kind, trained):
    config = kind(max_length=7, lowercase=True, name="t").get_config()
    assert (config["max_length"], config["lowercase"], config["name"]) == (7, True, "t")
    assert not {"vocabulary", "model"} & set(config)
    with pytest.raises(ValueError, match="has no vocabulary yet"):
        kind.from_config(config).tokenize(["a"])
    assert keras.saving.get_registered_name(kind) == f"keras_attn>{kind.__name__}"


@each_class
def test_models_keep_their_tokenizer(kind, trained, tmp_path):
    inputs = keras.Input((), dtype="string")
    ids = trained[kind](inputs)
    assert ids.shape == (None, None) and ids.dtype == "int32"
    model = keras.Model(inputs, [ids, keras.layers.Embedding(67, 3)(ids)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model(tf.constant(TEXTS)), loaded(tf.constant(TEXTS)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.layers[1].tokens == trained[kind].tokens


@each_class
def test_unfilled_ones_save_too(kind, tmp_path):
    kind().save_assets(tmp_path)
    assert not list(tmp_path.iterdir())
    tokenizer = kind()
    tokenizer.load_assets(tmp_path)
    with pytest.raises(ValueError, match="has no vocabulary yet"):
        tokenizer.tokenize(["a"])


@each_class
def test_symbolic_calls_are_checked(kind):
    with pytest.raises(ValueError, match=r"`texts` must have 1 axes, \[B\]"):
        kind()(keras.Input((3,), dtype="string"))
    with pytest.raises(ValueError, match=r"`texts` must be strings\. Received: texts\.dtype=int32"):
        kind()(keras.Input((), dtype="int32"))


def test_files_go_with_their_tokenizer():
    tokenizer = Words(["a"])
    directory = pathlib.Path(tokenizer._asset_path).parent
    assert directory.is_dir()
    del tokenizer
    gc.collect()
    assert not directory.exists()


LOAD = """
import json, sys
import tensorflow as tf
import tensorflow_text
path, texts = sys.argv[1], json.loads(sys.argv[2])
found = {}
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    signatures = tf.compat.v1.saved_model.loader.load(session, ["serve"], path).signature_def
    for name in ("Characters", "Words", "SentencePiece", "WordPiece"):
        def run(signature, value):
            (given,), (got,) = signatures[signature].inputs.values(), signatures[signature].outputs.values()
            return session.run(got.name, {given.name: value})
        ids = run(name, texts)
        found[name] = ids.tolist(), [text.decode() for text in run(name + "_back", ids).tolist()]
assert "keras_attn" not in sys.modules
print(json.dumps(found))
"""


def test_saved_models_carry_their_assets(tmp_path):
    archive, expected = keras.export.ExportArchive(), {}
    for kind in CLASSES:
        tokenizer = kind()
        tokenizer.adapt(CORPUS, vocabulary_size=67, verbose=0)
        ids = tokenizer.tokenize(TEXTS)
        expected[kind.__name__] = [ids.numpy().tolist(), strings(tokenizer.detokenize(ids))]
        archive.track(tokenizer)
        archive.add_endpoint(kind.__name__, tokenizer.tokenize, [tf.TensorSpec([None], tf.string)])
        archive.add_endpoint(f"{kind.__name__}_back", tokenizer.detokenize, [tf.TensorSpec([None, None], tf.int32)])
        kept = tokenizer._asset_path
    archive.write_out(tmp_path / "first", verbose=False)
    shutil.rmtree(pathlib.Path(kept).parent)
    moved = shutil.move(tmp_path / "first", tmp_path / "second")
    assets = sorted(path.name for path in (moved / "assets").iterdir())
    assert assets == ["characters.txt", "sentencepiece.model", "word_pieces.txt", "words.txt"]
    assert "the\n" in (moved / "assets" / "words.txt").read_text("utf-8")
    loaded = tf.saved_model.load(str(moved))
    for kind in CLASSES:
        ids = getattr(loaded, kind.__name__)(tf.constant(TEXTS))
        assert ids.numpy().tolist() == expected[kind.__name__][0]
    arguments = [sys.executable, "-c", LOAD, str(moved), json.dumps(TEXTS)]
    fresh = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert fresh.returncode == 0, fresh.stderr[-2000:]
    assert json.loads(fresh.stdout.splitlines()[-1]) == expected


def test_copies_are_their_own(trained):
    twin = copy.deepcopy(trained[Words])
    assert twin.tokens == trained[Words].tokens and twin._asset_path != trained[Words]._asset_path


def test_room_has_its_names():
    assert all(getattr(text, name) is not None for name in text.__all__)
