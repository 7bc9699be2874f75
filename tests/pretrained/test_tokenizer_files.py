"""The tokenizers of folders without tokenizer.json are those of transformers."""

import json
import re

import pytest

from keras_attn.base.special_ids import SpecialIds
from keras_attn.pretrained.tokenizer import TokenizerFolder
from keras_attn.text import MarianTokenizer
from tests.text import marian_files

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
