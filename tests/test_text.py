"""Tokenizers give the ids and texts that they promise: for any Unicode, in graphs, and after saving."""

import copy
import gc
import io
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import unicodedata

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow", reason="tokenizers are TensorFlow graphs")
pytest.importorskip("tensorflow_text", reason="SentencePiece and WordPiece stand on TensorFlow Text")
sentencepiece = pytest.importorskip("sentencepiece", reason="`SentencePiece.adapt` trains with it")

from keras_attn import text  # noqa: E402
from keras_attn.text import Characters, SentencePiece, Tokenizer, WordPiece, Words  # noqa: E402
from keras_attn.text.tokenizer import NUM_SPECIAL_IDS  # noqa: E402

pytestmark = pytest.mark.tensorflow

PADDING_ID, START_ID, END_ID, UNKNOWN_ID = range(4)

CORPUS = ["the cat sat on the mat", "the dog sat on the log", "cats and dogs , mats and logs", "Ünïcode straße"]
CLASSES = [Characters, Words, SentencePiece, WordPiece]
TEXTS = ["the cat sat", "", "dogs and logs on the mat", "the zebra"]
SCRIPTS = [
    "naïve",
    "Ελληνικά",
    "русский",
    "עברית",
    "العربية",
    "हिन्दी",
    "ไทย",
    "日本語",
    "한국어",
    "𝔘𝔫𝔦",
    "👩‍👧‍👦🇨🇭",
    "e\u0301\u0327",
]

tensorflow_only = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="exports TensorFlow graphs")
each = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module")
def trained():
    """One tokenizer of each class, adapted to the corpus."""
    tokenizers = {}
    for kind in CLASSES:
        tokenizers[kind] = kind()
        tokenizers[kind].adapt(CORPUS, vocabulary_size=67, verbose=0)
    return tokenizers


def strings(tensor):
    """Nested lists of `str` of a string tensor."""
    return np.vectorize(bytes.decode, otypes=[object])(tensor.numpy()).tolist()


def round_trip(tokenizer, texts):
    return strings(tokenizer.detokenize(tokenizer.tokenize(texts)))


# What all of them promise


@each
def test_rows_end_and_are_padded(kind, trained):
    tokenizer = trained[kind]
    ids, pieces = tokenizer.tokenize(TEXTS), tokenizer.pieces(TEXTS)
    assert isinstance(pieces, tf.RaggedTensor) and ids.dtype == pieces.dtype == tf.int32
    rows = pieces.to_list()
    width = max(map(len, rows)) + 1
    assert ids.numpy().tolist() == [row + [END_ID] + [PADDING_ID] * (width - 1 - len(row)) for row in rows]
    prompt = tokenizer.prompt(TEXTS).numpy().tolist()
    assert prompt == [[START_ID] + row + [PADDING_ID] * (width - 1 - len(row)) for row in rows]
    assert rows[1] == [] and all(UNKNOWN_ID <= i < tokenizer.vocabulary_size for row in rows for i in row)
    np.testing.assert_array_equal(tokenizer(TEXTS), ids)
    np.testing.assert_array_equal(tokenizer(tf.constant(TEXTS)), ids)
    np.testing.assert_array_equal(tokenizer.tokenize(np.array(TEXTS)), ids)


@each
def test_texts_come_back(kind, trained):
    tokenizer = trained[kind]
    assert round_trip(tokenizer, TEXTS[:3]) == TEXTS[:3]
    assert strings(tokenizer.detokenize(tokenizer.prompt(TEXTS[:3]))) == TEXTS[:3]
    assert strings(tokenizer.detokenize(tokenizer.pieces(TEXTS[:3]))) == TEXTS[:3]


@each
def test_tokens_are_in_the_order_of_their_ids(kind, trained):
    tokenizer = trained[kind]
    assert tokenizer.vocabulary_size == len(tokenizer.tokens) + NUM_SPECIAL_IDS <= 67
    assert len(set(tokenizer.tokens)) == len(tokenizer.tokens)
    ids = tokenizer.pieces(["the"]).to_list()[0]
    assert "".join(tokenizer.tokens[i - NUM_SPECIAL_IDS] for i in ids).replace("##", "").strip("▁") == "the"


@each
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


@each
def test_no_rows(kind, trained):
    for texts in ([], tf.zeros([0], tf.string)):
        assert trained[kind].tokenize(texts).shape[0] == trained[kind].prompt(texts).shape[0] == 0
        assert trained[kind].pieces(texts).to_list() == []


@each
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


@each
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


@each
def test_lowercase(kind, trained):
    tokenizer = kind(lowercase=True)
    tokenizer.adapt([text.upper() for text in CORPUS], vocabulary_size=67, verbose=0)
    assert round_trip(tokenizer, ["THE Cat", "ÜNÏCODE"]) == ["the cat", "ünïcode"]


@each
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


@each
def test_adapting_again_replaces(kind):
    tokenizer = kind()
    tokenizer.adapt(["aaa bbb"] * 3, 31, verbose=0)
    tokenizer.adapt(["ccc ddd"] * 3, 31, verbose=0)
    assert not set("ab") & set("".join(tokenizer.tokens))
    assert round_trip(tokenizer, ["ccc ddd"]) == ["ccc ddd"]


@each
def test_datasets_of_all_forms(kind):
    ragged = tf.data.Dataset.from_tensor_slices(CORPUS)
    forms = [CORPUS, iter(CORPUS), np.array(CORPUS), ragged, ragged.batch(3), ragged.filter(lambda text: True)]
    learned = []
    for form in forms:
        tokenizer = kind()
        tokenizer.adapt(form, vocabulary_size=61, verbose=0)
        learned.append(tokenizer.tokens)
    assert all(tokens == learned[0] for tokens in learned[1:])


@each
def test_adapt_shows_its_progress(kind, capsys):
    kind().adapt(CORPUS, vocabulary_size=67)
    assert "4/4" in capsys.readouterr().out
    kind().adapt((text for text in CORPUS), vocabulary_size=67)
    assert "4/Unknown" in capsys.readouterr().out
    kind().adapt(CORPUS, vocabulary_size=67, verbose=0)
    assert not capsys.readouterr().out


@each
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


@each
def test_errors_of_adapt(kind):
    for dataset in ([], [""], tf.data.Dataset.from_tensor_slices(["x"]).take(0)):
        with pytest.raises(ValueError, match="`dataset` must have at least one t"):
            kind().adapt(dataset, verbose=0)
    for size in (4, 8.5) if kind in (Characters, Words) else (4, 8.5, None):
        with pytest.raises(ValueError, match="`vocabulary_size` must be an integer above the 4 special ids"):
            kind().adapt(CORPUS, vocabulary_size=size, verbose=0)
    for dataset in ("text", 7):
        with pytest.raises(
            ValueError, match="`dataset` must be a `tf.data.Dataset` of strings or an iterable of `str`"
        ):
            kind().adapt(dataset, verbose=0)
    for dataset in (
        tf.data.Dataset.range(3),
        tf.data.Dataset.from_tensors([["a"]]),
        tf.data.Dataset.from_tensors({"a": "b"}),
    ):
        with pytest.raises(ValueError, match=r"`dataset` must have string scalars or strings \[B\] as elements"):
            kind().adapt(dataset, verbose=0)
    with pytest.raises(ValueError, match="`texts` must be strings"):
        kind().adapt([1, 2], verbose=0)


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


# Saving


@each
def test_configs_leave_the_vocabulary_out(kind, trained):
    config = kind(max_length=7, lowercase=True, name="t").get_config()
    assert (config["max_length"], config["lowercase"], config["name"]) == (7, True, "t")
    assert not {"vocabulary", "model"} & set(config)
    with pytest.raises(ValueError, match="has no vocabulary yet"):
        kind.from_config(config).tokenize(["a"])
    assert keras.saving.get_registered_name(kind) == f"keras_attn>{kind.__name__}"


@tensorflow_only
@each
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


@each
def test_unfilled_ones_save_too(kind, tmp_path):
    kind().save_assets(tmp_path)
    assert not list(tmp_path.iterdir())
    tokenizer = kind()
    tokenizer.load_assets(tmp_path)
    with pytest.raises(ValueError, match="has no vocabulary yet"):
        tokenizer.tokenize(["a"])


@each
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


@tensorflow_only
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


@tensorflow_only
def test_copies_are_their_own(trained):
    twin = copy.deepcopy(trained[Words])
    assert twin.tokens == trained[Words].tokens and twin._asset_path != trained[Words]._asset_path


# Characters


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=23), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_unicode_comes_back(texts):
    tokenizer = Characters(sorted(set("".join(texts))) or "a", max_length=None)
    assert round_trip(tokenizer, texts) == texts
    assert [len(row) for row in tokenizer.pieces(texts).to_list()] == [len(text) for text in texts]


def test_code_points_of_every_plane():
    planes = range(0xD800), range(0xE000, 0x10000), range(0x10000, 0x110000, 11)
    everything = [chr(i) for i in itertools.chain(*planes)]
    tokenizer = Characters(everything, max_length=None)
    text = "".join(everything)
    assert round_trip(tokenizer, [text]) == [text]
    np.testing.assert_array_equal(tokenizer.pieces([text])[0], np.arange(len(text)) + NUM_SPECIAL_IDS)


def test_scripts_and_what_is_not_seen():
    tokenizer = Characters(sorted(set("".join(SCRIPTS))))
    assert round_trip(tokenizer, SCRIPTS) == SCRIPTS
    assert round_trip(tokenizer, ["\0\n\t\r\v\x7f\x85"]) == ["\ufffd" * 7]
    control = Characters("\0\n\t\r\v\x7f\x85\u2028\ufeff\\'")
    assert round_trip(control, ["\t\0\r\n\\'", "\0", "\u2028\ufeff\x85\v\x7f"]) == [
        "\t\0\r\n\\'",
        "\0",
        "\u2028\ufeff\x85\v\x7f",
    ]
    assert control.tokens == list("\0\n\t\r\v\x7f\x85\u2028\ufeff\\'")
    assert "10\t\\n\n" in pathlib.Path(control._asset_path).read_text("utf-8")


def test_characters_by_hand():
    tokenizer = Characters("ab\ufffd", max_length=4)
    assert tokenizer.tokenize(["ba", "", "xyz", "abab", b"\xff"]).numpy().tolist() == [
        [5, 4, 2, 0], [2, 0, 0, 0], [3, 3, 3, 2], [4, 5, 4, 2], [6, 2, 0, 0],
    ]  # fmt: skip


def test_lower_case_goes_past_nul():
    tokenizer = Characters("\0abcσςé i\u0307", lowercase=True)
    assert round_trip(tokenizer, ["A\0B\0", "\0", "ΣΑΣ"[2:] + "É", "İ"]) == ["a\0b\0", "\0", "σé", "i\u0307"]


def test_frequent_tokens_stay():
    tokenizer = Characters()
    tokenizer.adapt(["ccbbbaax", "zyx"], verbose=0)
    assert tokenizer.tokens == list("bacxyz")
    tokenizer.adapt(["ccbbbaax", "zyx"], vocabulary_size=8, verbose=0)
    assert tokenizer.tokens == list("bacx") and tokenizer.vocabulary_size == 8
    words = Words()
    words.adapt(["é z z", "a \U0001f600 \uffff"], vocabulary_size=9, verbose=0)
    assert words.tokens == ["z", "a", "é", "\uffff", "\U0001f600"]


@pytest.mark.parametrize("kind", [Characters, Words, WordPiece], ids=lambda kind: kind.__name__)
def test_vocabularies_are_checked(kind):
    with pytest.raises(ValueError, match=r"`vocabulary` must have each token once\. Received twice: 'b'"):
        kind(["a", "b", "c", "b"])
    for token in (
        "",
        7,
        b"a",
        "\ud800",
        "ab" if kind is Characters else "a b",
        "e\u0301" if kind is Characters else "a\u3000b",
    ):
        with pytest.raises(ValueError, match="`vocabulary` must be made of .*Received the token"):
            kind(["x", token])
    with pytest.raises(ValueError, match="`vocabulary` must have at least one token"):
        kind([])
    with pytest.raises(ValueError, match="`vocabulary` must be an iterable of tokens. Received: 7"):
        kind(7)


# Words


def test_words_split_at_the_whitespace_of_any_script():
    tokenizer = Words(["ab", "\u0105\u00e0", "日本"])  # their bytes hold those of U+0085 and U+00A0
    spaces = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i))[0] == "Z" or chr(i) in "\t\n\v\f\r\x85"]
    assert len(spaces) == 25
    texts = [f"{space}ab{space}{space}\u0105\u00e0 日本{space}" for space in spaces]
    assert tokenizer.pieces(texts).to_list() == [[4, 5, 6]] * 25
    assert round_trip(tokenizer, texts) == ["ab \u0105\u00e0 日本"] * 25
    assert tokenizer.pieces(["ab\u200bab", "ab\0ab", " \n"]).to_list() == [[3], [3], []]


def test_words_of_any_unicode_come_back():
    words = sorted({*SCRIPTS, "a\0b", "\x1c", "\ufeff", "#", "a\\n"})
    tokenizer = Words(words)
    assert tokenizer.tokens == words
    assert round_trip(tokenizer, [" ".join(words)]) == [" ".join(words)]
    with pytest.raises(ValueError, match="`vocabulary` must be an iterable of tokens. Received: 'cat'"):
        Words("cat")


def test_very_long_words():
    tokenizer = Words(["x" * 10000, "y"])
    assert tokenizer.pieces(["y " + "x" * 10000, "z" * 10000]).to_list() == [[5, 4], [3]]


# Subwords


def test_wordpiece_takes_the_longest_piece():
    tokenizer = WordPiece(["un", "##aff", "##able", "##a", ",", "日", "本", "[UNK]"])
    assert tokenizer.pieces(["unaffable", "una, unx", "日本", "un\tun\0un", "u" * 101, ""]).to_list() == [
        [4, 5, 6], [4, 7, 8, 3], [9, 10], [4, 4, 4], [3], [],
    ]  # fmt: skip
    assert round_trip(tokenizer, ["unaffable, unx 日本"]) == ["unaffable , \ufffd 日 本"]
    assert strings(tokenizer.detokenize([[5, 6], [3, 5]])) == ["affable", "\ufffdaff"]


def test_wordpiece_refuses_too_small_a_vocabulary():
    with pytest.raises(ValueError, match=r"`vocabulary_size` must be at least \d+ for the characters of `dataset`"):
        WordPiece().adapt(CORPUS, vocabulary_size=7, verbose=0)


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


def test_missing_packages_are_named(monkeypatch):
    for name, use in (
        ("sentencepiece", lambda: SentencePiece().adapt(["a"], verbose=0)),
        ("tensorflow_text", lambda: WordPiece(["a"])),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=rf'`{name}.*pip install "keras-attn\[text\]"'):
            use()


def test_room_has_its_names():
    assert all(getattr(text, name) is not None for name in text.__all__)
