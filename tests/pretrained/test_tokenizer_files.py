"""The tokenizers of folders without tokenizer.json are those of transformers."""

import json
import re

import numpy as np
import pytest

from keras_attn.base.special_ids import SpecialIds
from keras_attn.pretrained.tokenizer import TokenizerFolder
from keras_attn.text import MarianTokenizer
from tests.text import marian_files
from tests.text.pretrained_texts import TEXTS, byte_pairs

pytestmark = pytest.mark.tensorflow
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentencepiece", reason="the models are trained here")


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marian_has_two_tokenizers(tmp_path):
    marian_files.write(tmp_path, separate=True)
    settings = {"separate_vocabs": True, "source_lang": "eng", "target_lang": "fra", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    files = TokenizerFolder(tmp_path)
    special_ids = SpecialIds(2, 2, 0, 1)
    assert files.token_ids["</s>"] == 0 and files.spec is None
    source, target = files.make(37, special_ids, prefix="to: ")
    assert isinstance(source, MarianTokenizer) and isinstance(target, MarianTokenizer)
    assert (source.prefix, target.prefix, source.max_length, target.max_length) == ("to: ", "", 37, 37)
    theirs = transformers.MarianTokenizer.from_pretrained(tmp_path)
    texts = marian_files.texts()[::40]
    rows = theirs([f"to: {text}" for text in texts], truncation=True, max_length=37)["input_ids"]
    assert source.ragged(texts).to_list() == rows
    rows = theirs(text_target=texts, truncation=True, max_length=37)["input_ids"]
    assert target.ragged(texts).to_list() == rows
    decoded = [text.decode() for text in target.detokenize(target.ragged(texts)).numpy()]
    assert decoded == theirs.batch_decode(rows, skip_special_tokens=True)


def test_marian_needs_all_files(tmp_path):
    marian_files.write(tmp_path)
    assert TokenizerFolder(tmp_path).marian.special == ("<unk>", "</s>", "<pad>")
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"extra_special_tokens": ["<new>"]}))
    with pytest.raises(ValueError, match=re.escape("must be in the vocabularies, with the same ids. Received: ['<new")):
        TokenizerFolder(tmp_path)
    config.write_text(json.dumps({"eos_token": {"content": "</s>", "lstrip": True}}))
    with pytest.raises(ValueError, match=r"must not have \('lstrip', 'rstrip', 'single_word'\)\. Received: {'content'"):
        TokenizerFolder(tmp_path)
    config.write_text(json.dumps({"separate_vocabs": True}))
    with pytest.raises(ValueError, match=re.escape("Missing: ['target_vocab.json']")):
        TokenizerFolder(tmp_path)
    (tmp_path / "target.spm").unlink()
    config.unlink()
    with pytest.raises(ValueError, match=re.escape("must have all files of its tokenizer. Missing: ['target.spm']")):
        TokenizerFolder(tmp_path)


def check_same(folder, theirs, texts):
    """Asserts that a folder gives the ids and decoded texts of a tokenizer of transformers."""
    ours, _ = TokenizerFolder(folder).make(None, SpecialIds(None, 1, 1, None))
    assert ours.ragged(texts).to_list() == theirs(texts)["input_ids"]
    ids = np.random.default_rng(7).integers(0, ours.vocabulary_size, [300, 19])
    decoded = [text.decode() for text in ours.detokenize(ids).numpy()]
    assert decoded == theirs._tokenizer.decode_batch(ids.tolist())
    assert ours.vocabulary_size == len(theirs)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("GPT2Tokenizer", {}),
        ("GPT2Tokenizer", {"add_bos_token": True, "add_prefix_space": True}),
        ("BartTokenizer", {"mask_token": {"content": "<mask>", "lstrip": True, "__type": "AddedToken"}}),
        ("Qwen2Tokenizer", {"extra_special_tokens": ["<|im_start|>", "<|im_end|>"], "eos_token": "<|im_end|>"}),
    ],
)
def test_vocabularies_with_merges(tmp_path, kind, config):
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if kind == "BartTokenizer" else ["<|endoftext|>"]
    byte_pairs(special).model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **config}))
    theirs = getattr(transformers, kind).from_pretrained(tmp_path)
    texts = [*TEXTS[:1500], "a <mask> b", "<|im_start|>user\nHi<|im_end|>\n", "<s> <|endoftext|> </s>"]
    check_same(tmp_path, theirs, texts)


def test_the_kind_may_come_from_the_config(tmp_path):
    byte_pairs(["<|endoftext|>"]).model.save(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    theirs = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    check_same(tmp_path, theirs, TEXTS[:100])
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "odd"}))
    with pytest.raises(ValueError, match=r"with vocab\.json and merges\.txt must be one of .*save_pretrained.*'odd'"):
        TokenizerFolder(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "ids", "config"),
    [
        ("T5Tokenizer", "spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, {"extra_ids": 7}),
        (
            "LlamaTokenizer", "tokenizer.model", {"unk_id": 0, "bos_id": 1, "eos_id": 2},
            {"add_bos_token": True, "add_eos_token": False, "pad_token": "</s>"},
        ),
        ("LlamaTokenizer", "tokenizer.model", {"unk_id": 0, "bos_id": 1, "eos_id": 2}, {"legacy": True}),
        ("GemmaTokenizer", "tokenizer.model", {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}, {}),
    ],
)  # fmt: skip
def test_sentence_piece_models(tmp_path, kind, name, ids, config):
    options = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
    options = {} if kind == "T5Tokenizer" else options
    if kind == "GemmaTokenizer":
        options |= {"bos_piece": "<bos>", "eos_piece": "<eos>", "user_defined_symbols": "<start_of_turn>,\t"}
    lines = marian_files.LINES
    marian_files.trained(tmp_path, "model", lines, 900, **options, **ids)
    (tmp_path / "model.spm").rename(tmp_path / name)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **config}))
    theirs = getattr(transformers, kind).from_pretrained(tmp_path)
    texts = [*TEXTS[:1500], "<extra_id_3>a", "<start_of_turn>user\nHi", "<s> a</s>b", "<bos><eos>\t\ta"]
    check_same(tmp_path, theirs, texts)


def test_other_sentence_piece_models_are_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "OddTokenizerFast"}))
    with pytest.raises(ValueError, match=r"with only a SentencePiece model must be one of .*save_pretrained.*'odd'"):
        TokenizerFolder(tmp_path)
