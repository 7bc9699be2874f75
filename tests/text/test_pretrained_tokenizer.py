"""`PretrainedTokenizer` keeps its contract: special ids, limits, saving, and what it refuses."""

import copy
import functools
import gc
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn.base.special_ids import SpecialIds
from keras_attn.text import PretrainedTokenizer
from keras_attn.text.tokenizer_json import from_vocabulary
from keras_attn.text.tokenizer_json.patterns import QWEN

from .corpus import strings

pytestmark = pytest.mark.tensorflow

pytest.importorskip("tensorflow_text")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["play", "##ing", "##ed", "chess", ".", "é", "日", "don", "'", "t"]
TEXTS = ["Playing chess.", "", "chess [MASK] 日日 unknown", "don't"]
ROWS = [[2, 5, 6, 8, 9, 3, 0], [2, 3, 0, 0, 0, 0, 0], [2, 8, 4, 11, 11, 1, 3], [2, 12, 13, 14, 3, 0, 0]]


def added(token, number, **flags):
    return {"id": number, "content": token, "special": True, "normalized": False, **flags}


def bert_spec(**sections):
    spec = {
        "version": "1.0",
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [added(token, number) for number, token in enumerate(SPECIAL)],
        "normalizer": {"type": "BertNormalizer", "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]},
        "decoder": {"type": "WordPiece"},
        "model": {"type": "WordPiece", "vocab": {token: number for number, token in enumerate([*SPECIAL, *WORDS])}},
    }
    return json.dumps({**spec, **sections}).encode()


def tiny_bytes(**fields):
    """A byte-level model without most bytes."""
    vocabulary = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "c": 4, "ab": 5, "bc": 6, "abc": 7, "Ġ": 8}
    model = {"type": "BPE", "vocab": vocabulary, "merges": ["b c", "a b"], **fields}
    post = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0]}, "</s>": {"id": "</s>", "ids": [1]}},
    }
    return bert_spec(
        model=model,
        post_processor=post,
        normalizer=None,
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False},
        decoder={"type": "ByteLevel"},
        added_tokens=[added("<s>", 0), added("</s>", 1)],
    )


@pytest.fixture(scope="module")
def tokenizer():
    return PretrainedTokenizer(bert_spec())


def test_rows_by_hand(tokenizer):
    ids = tokenizer(TEXTS)
    assert ids.dtype == tf.int32 and ids.numpy().tolist() == ROWS
    assert tokenizer.tokenize(tf.constant(TEXTS)).numpy().tolist() == ROWS
    assert tokenizer.pieces(TEXTS).to_list() == [[each for each in row if each not in (0, 2, 3)] for row in ROWS]
    assert strings(tokenizer.detokenize(ids)) == ["playing chess.", "", "chess 日 日", "don ' t"]
    assert strings(tokenizer.detokenize([[[5, 6]], [[-1, 99]]])) == [["playing"], [""]]
    assert tokenizer.tokenize([]).shape == (0, 2) or tokenizer.tokenize([]).shape[0] == 0
    assert (tokenizer.vocabulary_size, tokenizer.mask_id) == (15, 4)
    assert tokenizer.tokens == [*SPECIAL, *WORDS]
    assert tokenizer.special_ids == SpecialIds(padding=0, start=2, end=3, unknown=1)


def test_offsets_by_hand(tokenizer):
    ids, starts, ends = (each.numpy().tolist() for each in tokenizer.tokenize_with_offsets(TEXTS))
    assert ids == ROWS
    assert starts[0] == [0, 0, 4, 8, 13, 0, 0] and ends[0] == [0, 4, 7, 13, 14, 0, 0]
    assert starts[2] == [0, 0, 6, 13, 14, 16, 0] and ends[2] == [0, 5, 12, 14, 15, 23, 0]


def test_limits_count_special_tokens():
    short = PretrainedTokenizer(bert_spec(), max_length=4)
    assert short(TEXTS).numpy().tolist() == [[2, 5, 6, 3], [2, 3, 0, 0], [2, 8, 4, 3], [2, 12, 13, 3]]
    assert short.tokenize_with_offsets(TEXTS)[2].numpy().tolist()[0] == [0, 4, 7, 0]
    ids, segments = PretrainedTokenizer(bert_spec(), max_length=7).tokenize_pairs(["chess"], ["don't playing"])
    assert ids.numpy().tolist() == [[2, 8, 3, 12, 13, 14, 3]] and segments.numpy().tolist() == [[0, 0, 0, 1, 1, 1, 1]]
    assert PretrainedTokenizer(bert_spec(), max_length=2)(TEXTS).numpy().tolist() == [[2, 3]] * 4


def test_a_prefix_is_before_every_text(tmp_path):
    tokenizer = PretrainedTokenizer(bert_spec(), prefix="don't chess: ")
    plain = PretrainedTokenizer(bert_spec())
    expected = plain(["don't chess: playing", "don't chess: "]).numpy().tolist()
    assert tokenizer(["playing", ""]).numpy().tolist() == expected
    ids, starts, ends = (each.numpy().tolist() for each in tokenizer.tokenize_with_offsets(["playing", ""]))
    assert ids == expected
    assert starts[0][-3:] == [0, 4, 0] and ends[0][-3:] == [4, 7, 0] and set(starts[0][:-3]) == set(ends[1]) == {0}
    pairs = [each.numpy().tolist() for each in tokenizer.tokenize_pairs(["playing"], ["playing"])]
    assert pairs == [each.numpy().tolist() for each in plain.tokenize_pairs(["don't chess: playing"], ["playing"])]
    inputs = keras.Input((), dtype="string")
    keras.Model(inputs, tokenizer(inputs)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[1]
    assert (loaded.prefix, loaded(["playing", ""]).numpy().tolist()) == ("don't chess: ", expected)
    with pytest.raises(ValueError, match="`prefix` must be a string. Received: prefix=3"):
        PretrainedTokenizer(bert_spec(), prefix=3)


def test_prompts_do_not_end(tokenizer):
    prompts = tokenizer.ragged_prompt(TEXTS)
    assert prompts.to_list() == [row[: row.index(3)] for row in ROWS] and prompts.dtype == tf.int32
    assert tokenizer.ragged(TEXTS).to_list() == [row[: row.index(3) + 1] for row in ROWS]
    assert tokenizer.prompt(TEXTS).numpy().tolist() == prompts.to_tensor(0).numpy().tolist()
    short = PretrainedTokenizer(bert_spec(), max_length=4)
    assert short.ragged_prompt(TEXTS).to_list()[0] == ROWS[0][:4] and short.ragged(TEXTS).to_list()[0][-1] == 3
    bare = PretrainedTokenizer(bert_spec(post_processor=None), special_ids=SpecialIds(0, 2, 3, 1))
    assert bare.ragged_prompt(["chess", "", "chess"]).to_list() == [[8], [2], [8]]
    assert bare.ragged(["chess", ""]).to_list() == [[8], []]
    assert bare.ragged_prompt([]).to_list() == []


def test_special_ids_are_given_or_derived():
    given = SpecialIds(padding=9, start=2, end=3, unknown=1)
    tokenizer = PretrainedTokenizer(bert_spec(), special_ids=given)
    assert tokenizer(["chess", ""]).numpy().tolist() == [[2, 8, 3], [2, 3, 9]]
    padding = {"pad_id": 7, "pad_token": "x"}
    assert PretrainedTokenizer(bert_spec(padding=padding)).special_ids.padding == 7
    plain = bert_spec(post_processor=None, added_tokens=[])
    assert PretrainedTokenizer(plain).special_ids == SpecialIds(padding=0, start=2, end=3, unknown=1)
    nothing = bert_spec(
        post_processor=None, added_tokens=[], model={"type": "WordPiece", "vocab": {"?": 0}, "unk_token": "?"}
    )
    with pytest.raises(ValueError, match=r"`special_ids` must be given for a tokenizer.json without special tokens"):
        PretrainedTokenizer(nothing)
    assert PretrainedTokenizer(nothing, special_ids=given)(["a"]).numpy().tolist() == [[0]]


def test_bytes_that_are_not_utf8(tokenizer):
    broken = [b"chess \xff\xfe", b"\xe2\x82", "chess"]
    assert tokenizer.pieces(broken).to_list() == tokenizer.pieces(["chess \ufffd\ufffd", "\ufffd", "chess"]).to_list()


@given(st.lists(st.binary(max_size=29) | st.text(), max_size=5))
@settings(max_examples=20, deadline=None)
def test_no_bytes_are_an_error(tokenizer, texts):
    ids, starts, ends = (each.numpy() for each in tokenizer.tokenize_with_offsets(texts))
    np.testing.assert_array_equal(ids, tokenizer.tokenize(texts))
    assert (starts <= ends).all() and len(strings(tokenizer.detokenize(ids)) if len(texts) else []) == len(texts)


def test_bytes_without_a_token():
    # "b c" comes first, so "abc" is never made, and "ab" only without a c behind it
    texts = ["abc", "ab", "xaxb", "abcab"]
    assert PretrainedTokenizer(tiny_bytes()).pieces(texts).to_list() == [[2, 6], [5], [5], [2, 6, 5]]
    whole = PretrainedTokenizer(tiny_bytes(ignore_merges=True))
    ids, starts, ends = (each.numpy().tolist() for each in whole.tokenize_with_offsets(texts))
    assert (
        ids == [[0, 7, 1, 1, 1], [0, 5, 1, 1, 1], [0, 5, 1, 1, 1], [0, 2, 6, 5, 1]] or whole.special_ids.padding is None
    )
    assert (starts[0][1], ends[0][1]) == (0, 3)
    unknown = PretrainedTokenizer(tiny_bytes(unk_token="</s>"))
    assert unknown.pieces(texts).to_list() == [[2, 6], [5], [1, 2, 1, 3], [2, 6, 5]]


def test_added_tokens_take_spaces():
    tokens = [added("<a>", 0, lstrip=True), added("<b>", 1, rstrip=True), added("<ab>", 2), added("[UNK]", 3)]
    vocabulary = {"<a>": 0, "<b>": 1, "<ab>": 2, "[UNK]": 3, "x": 4}
    spec = bert_spec(added_tokens=tokens, model={"type": "WordPiece", "vocab": vocabulary}, post_processor=None)
    tokenizer = PretrainedTokenizer(spec, special_ids=SpecialIds(None, 3, 3, None))
    ids, starts, ends = tokenizer.tokenize_with_offsets(["x  <a> <b>  <ab>x<b>"])
    assert ids.numpy().tolist() == [[4, 0, 1, 2, 4, 1]]
    assert starts.numpy().tolist() == [[0, 1, 7, 13 - 1, 16, 17]]
    assert ends.numpy().tolist() == [[1, 6, 12, 16, 17, 20]]


def test_copies_and_configs(tokenizer, tmp_path):
    twin = copy.deepcopy(tokenizer)
    assert twin(TEXTS).numpy().tolist() == ROWS and twin._asset_path != tokenizer._asset_path
    config = PretrainedTokenizer(max_length=7, special_ids=SpecialIds(5, 6, 7, 8), name="t").get_config()
    assert (config["max_length"], config["name"]) == (7, "t") and "lowercase" not in config
    empty = PretrainedTokenizer.from_config(config)
    assert empty.special_ids == SpecialIds(padding=5, start=6, end=7, unknown=8)
    for use in (empty.tokenize, empty.tokenize_with_offsets, empty.detokenize, lambda _: empty.tokens):
        with pytest.raises(ValueError, match="`PretrainedTokenizer` has no vocabulary yet"):
            use(["a"])
    assert keras.saving.get_registered_name(PretrainedTokenizer) == "keras_attn>PretrainedTokenizer"
    path = tmp_path / "tokenizer.json"
    path.write_bytes(bert_spec())
    for spec in (path, str(path)):
        assert PretrainedTokenizer(spec)(TEXTS).numpy().tolist() == ROWS


def test_models_keep_their_tokenizer(tokenizer, tmp_path):
    inputs = keras.Input((), dtype="string")
    model = keras.Model(inputs, keras.layers.Embedding(15, 3)(tokenizer(inputs)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(tf.constant(TEXTS)), loaded(tf.constant(TEXTS)))
    assert loaded.layers[1].tokens == tokenizer.tokens


def test_tokenizers_outlive_the_caches_of_tensorflow():
    tokenizer = PretrainedTokenizer(tiny_bytes())
    before = tokenizer(["abc ab"]).numpy()
    twin = PretrainedTokenizer(tiny_bytes())
    twin(["a"])
    del twin
    gc.collect()
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(tokenizer(["abc ab"]), before)
    dataset = tf.data.Dataset.from_tensor_slices(["abc ab"] * 2).batch(1).map(tokenizer.tokenize)
    np.testing.assert_array_equal(next(iter(dataset)), before)


LOAD = """
import json, sys
import tensorflow as tf
import tensorflow_text
path, texts = sys.argv[1], json.loads(sys.argv[2])
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    signatures = tf.compat.v1.saved_model.loader.load(session, ["serve"], path).signature_def
    found = {}
    for name in signatures:
        given = [signatures[name].inputs[key].name for key in sorted(signatures[name].inputs)]
        got = [signatures[name].outputs[key].name for key in sorted(signatures[name].outputs)]
        if name.startswith("__"):
            continue
        found[name] = [each.tolist() for each in session.run(got, dict.fromkeys(given, texts))]
assert "keras_attn" not in sys.modules
print(json.dumps(found))
"""


@pytest.mark.slow
def test_saved_models_answer_alone(tokenizer, tmp_path):
    from keras_attn.serving.exporting import save

    from .pretrained_texts import roberta, xlm_roberta

    kinds = {
        "bert": tokenizer,
        "roberta": PretrainedTokenizer(roberta(True).to_str().encode(), max_length=9),
        "unigram": PretrainedTokenizer(xlm_roberta().to_str().encode(), max_length=9),
    }

    def offsets(tokenizer, texts):
        return dict(zip("abc", tokenizer.tokenize_with_offsets(texts), strict=True))

    calls = {name: functools.partial(offsets, each) for name, each in kinds.items()}
    calls["pairs"] = lambda texts: dict(zip("ab", tokenizer.tokenize_pairs(texts, texts), strict=True))
    expected = {name: [part.numpy().tolist() for part in call(TEXTS).values()] for name, call in calls.items()}
    text = tf.TensorSpec([None], tf.string)
    functions = {name: tf.function(call, [text], autograph=False) for name, call in calls.items()}
    for function in functions.values():
        types = {node.type for node in function.get_concrete_function().graph.get_operations()}
        assert not [kind for kind in types if "Xla" in kind or "PyFunc" in kind]
    save(functions, kinds.values(), tmp_path / "model")
    assets = [path.name for path in (tmp_path / "model" / "assets").iterdir()]
    assert len(assets) == 3 and all(name.startswith("tokenizer.json") for name in assets)
    arguments = [sys.executable, "-c", LOAD, str(tmp_path / "model"), json.dumps(TEXTS)]
    fresh = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert fresh.returncode == 0, fresh.stderr[-2000:]
    assert json.loads(fresh.stdout.splitlines()[-1]) == expected


def test_vocabulary_files(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *WORDS]) + "\n", "utf-8")
    assert PretrainedTokenizer(from_vocabulary(path, {}))(TEXTS).numpy().tolist() == ROWS
    cased = PretrainedTokenizer(from_vocabulary(path, {"do_lower_case": False, "mask_token": {"content": "[MASK]"}}))
    assert cased.pieces(["Playing chess", "é"]).to_list() == [[1, 8], [10]]
    with pytest.raises(
        ValueError, match=r"`vocab_txt` must contain the special tokens of `settings`. Missing: \['x'\]"
    ):
        from_vocabulary(path, {"cls_token": "x"})
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizer(vocab=str(path), do_lower_case=True)
    assert theirs(TEXTS, padding=True)["input_ids"] == ROWS


REFUSED = {
    "normalizer.type": {"normalizer": {"type": "Nmt"}},
    "normalizer.normalizers[0].type": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Nmt"}]}},
    "normalizer.odd": {"normalizer": {"type": "BertNormalizer", "odd": 1}},
    "normalizer.pattern": {"normalizer": {"type": "Replace", "pattern": {"Regex": "x+"}, "content": ""}},
    "normalizer.prepend": {"normalizer": {"type": "Prepend", "prepend": "ab"}},
    "pre_tokenizer.type": {"pre_tokenizer": {"type": "CharDelimiterSplit"}},
    "pre_tokenizer.pattern": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}
    },
    "pre_tokenizer.prepend_scheme": {
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "odd"}
    },
    "model.type": {"model": {"type": "WordLevel"}},
    "model.odd": {"model": {"type": "WordPiece", "vocab": {"[UNK]": 0}, "odd": 1}},
    "model.unk_token": {"model": {"type": "WordPiece", "vocab": {"a": 0}}},
    "model.vocab": {"model": {"type": "WordPiece"}},
    "model.dropout": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}},
    "model.merges": {"model": {"type": "BPE", "vocab": {"a": 0}}},
    "model.unk_id": {"model": {"type": "Unigram", "unk_id": None, "vocab": [["a", 0]]}},
    "post_processor.type": {"post_processor": {"type": "odd"}},
    "post_processor.single": {
        "post_processor": {"type": "TemplateProcessing", "single": [{"odd": {}}], "pair": [], "special_tokens": {}}
    },
    "decoder.type": {"decoder": {"type": "CTC"}},
    "decoder.decoders[0].pattern": {
        "decoder": {
            "type": "Sequence",
            "decoders": [{"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}],
        }
    },
    "decoder.decoders[1]": {"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Metaspace"}]}},
    "decoder.decoders[2]": {
        "decoder": {
            "type": "Sequence",
            "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " "}, {"type": "ByteFallback"}],
        }
    },
    "pre_tokenizer.behavior": {
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Odd", "invert": False}
    },
    "pre_tokenizer.invert": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": QWEN}, "behavior": "Isolated", "invert": True}
    },
    "added_tokens[0].odd": {"added_tokens": [added("a", 0, odd=1)]},
    "added_tokens[1].content": {"added_tokens": [added("a", 0, rstrip=True), added(" b", 1)]},
    "spec.odd": {"odd": 1},
}


@pytest.mark.parametrize("kind", ["BPE", "Unigram"])
def test_some_bytes_only_are_refused(kind):
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(0xC2))]
    vocabulary = dict(zip(tokens, range(len(tokens)), strict=True))
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    if kind == "Unigram":
        model = {"type": kind, "vocab": [[token, 0.0] for token in tokens], "unk_id": 0}
    with pytest.raises(ValueError, match=r"`model\.vocab` .* for each byte, or for none, if `byte_fallback` is true"):
        PretrainedTokenizer(bert_spec(model={**model, "byte_fallback": True}))


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_unknown_is_refused_by_name(field):
    name = field.replace("[", r"\[").replace("]", r"\]").replace(".", r"\.")
    with pytest.raises(ValueError, match=rf"`{name}` of the tokenizer\.json must .*\. Received: {name}="):
        PretrainedTokenizer(bert_spec(**REFUSED[field]))


def test_other_errors(tokenizer):
    for spec in (pathlib.Path("none.json"), 7):
        with pytest.raises(ValueError, match=r"`spec` must be the path of a tokenizer\.json or its bytes\. Received"):
            PretrainedTokenizer(spec)
    with pytest.raises(ValueError, match=r"`spec` must be a tokenizer\.json\. Received: Expecting value"):
        PretrainedTokenizer(b"garbage")
    with pytest.raises(ValueError, match="`special_ids` must be"):
        PretrainedTokenizer(bert_spec(), special_ids=3)
    with pytest.raises(ValueError, match="`max_length` must be an integer of at least 2 or None"):
        PretrainedTokenizer(bert_spec(), max_length=1)
    with pytest.raises(ValueError, match=r"`texts` must have 1 axes, \[B\]"):
        tokenizer("a")
    with pytest.raises(ValueError, match=r"`ids` must be integers\. Received: ids\.dtype=float32"):
        tokenizer.detokenize([[1.0]])
    with pytest.raises(ValueError, match=r"`post_processor\.processors` .* must have special tokens in one part only"):
        framed = json.loads(bert_spec())["post_processor"]
        PretrainedTokenizer(bert_spec(post_processor={"type": "Sequence", "processors": [framed, framed]}))
