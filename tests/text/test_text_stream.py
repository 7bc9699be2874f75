"""The parts of a stream are the text of all ids, and no part has half a character."""

import json

import numpy as np
import pytest

from keras_attn.base.special_ids import SpecialIds
from keras_attn.text import MarianTokenizer, PretrainedTokenizer, SentencePiece, TextStream, Words

from . import language_models, marian_files
from . import pretrained_texts as reference
from .corpus import CLASSES

pytestmark = pytest.mark.tensorflow

TEXTS = [
    "Grüße aus 東京 👩‍👩‍👧‍👦 and  two  spaces \n",
    "नमस्ते 🏳️‍🌈!", "a\u0301\u0302 \0 \ufffd x\ufffd ", "", "   ", "don't . do not , '",
    "\U00013000\U00013001 ok", "the cat sat on the mat",
]  # fmt: skip
KINDS = {
    "bert": lambda: reference.bert(True),
    "roberta": lambda: reference.roberta(False),
    "llama": language_models.llama,
    "gemma": language_models.gemma,
    "t5": language_models.t5,
    "unigram with bytes": language_models.unigram_with_bytes,
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory, trained):
    folder = tmp_path_factory.mktemp("marian")
    marian_files.write(folder)
    special_ids = SpecialIds(None, 1, 2, None)
    found = {kind: PretrainedTokenizer(make().to_str().encode(), None, special_ids) for kind, make in KINDS.items()}
    found["marian"] = MarianTokenizer(folder / "source.spm", folder / "vocab.json")
    return found | {kind.__name__: trained[kind] for kind in CLASSES}


ALL = [*KINDS, "marian", *(kind.__name__ for kind in CLASSES)]


def check(tokenizer, ids):
    """Asserts that parts join to the text, that all characters are whole, and returns the parts."""
    text = tokenizer.detokenize(np.array(ids, "int64")).numpy().decode()
    stream = TextStream(tokenizer)
    parts = [*map(stream.add, ids), stream.end()]
    assert "".join(parts) == text
    assert sum(part.count("\ufffd") for part in parts) == text.count("\ufffd")
    return parts


@pytest.mark.parametrize("kind", ALL)
def test_parts_join_to_the_text(kind, tokenizers):
    tokenizer = tokenizers[kind]
    for row in tokenizer.ragged(TEXTS).to_list():
        check(tokenizer, row)
    rng = np.random.default_rng(3)
    for row in rng.integers(-1, tokenizer.vocabulary_size + 2, [5, 19]).tolist():
        check(tokenizer, row)
        assert "".join(TextStream(tokenizer).parts(row)) == tokenizer.detokenize([row]).numpy()[0].decode()


@pytest.mark.parametrize("kind", ["llama", "gemma", "unigram with bytes", "roberta"])
def test_runs_of_bytes_come_when_they_end(kind, tokenizers):
    tokenizer = tokenizers[kind]
    names = {token: number for number, token in enumerate(tokenizer.tokens)}
    of_bytes = [names.get(f"<0x{byte:02X}>") for byte in range(256)]
    if kind == "roberta":
        of_bytes = [names[character] for character in reference_characters()]
    rng = np.random.default_rng(4)
    samples = ["é€😀".encode(), b"\xc3\xa9\xff", b"\xf0\x9f\x98", b"\xe2\x82a", b"a\x80\x80b"]
    word = names["a"]
    for sample in samples:
        ids = [word, *(of_bytes[byte] for byte in sample)]
        check(tokenizer, ids)
        check(tokenizer, [*ids, word, *ids])
        check(tokenizer, [*ids[:3], tokenizer.special_ids.end, *ids[3:], word])
    for _ in range(8):
        check(tokenizer, [of_bytes[byte] for byte in rng.integers(128, 256, 9)] + [word])
    parts = check(tokenizer, [word, *(of_bytes[byte] for byte in "😀".encode()), word])
    assert [part for part in parts if part] in (["a", "😀", "a"], ["a", "😀a"])


def reference_characters():
    from keras_attn.text.tokenizer_json.byte_level import CHARACTERS

    return CHARACTERS


def test_parts_come_early(tokenizers):
    words = Words(["the", "cat", "sat"])
    stream = TextStream(words)
    assert [stream.add(4), stream.add(np.array([5, 6])), stream.add([]), stream.end()] == ["the", " cat sat", "", ""]
    tokenizer = tokenizers["roberta"]
    ids = tokenizer.pieces(["the cat sat"]).to_list()[0]
    parts = check(tokenizer, ids)
    assert sum(map(bool, parts)) == len(ids)


def test_a_text_that_changes_at_its_end_comes_at_the_end():
    steps = [
        {"type": "Fuse"},
        {"type": "Replace", "pattern": {"String": "ab"}, "content": "X"},
        {"type": "Strip", "content": "c", "stop": 1},
    ]
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}
    spec = {"model": model, "decoder": {"type": "Sequence", "decoders": steps}}
    tokenizer = PretrainedTokenizer(json.dumps(spec).encode(), None, SpecialIds(None, 7, 8, None))
    assert check(tokenizer, [2, 0, 1, 2]) == ["", "", "", "", "cX"]
    assert tokenizer.num_open_ids([0, 1]) == 2 and SentencePiece().num_open_ids([0, 1]) == 0


def test_errors(tokenizers):
    with pytest.raises(ValueError, match="`tokenizer` must be a tokenizer. Received: tokenizer=7"):
        TextStream(7)
    stream = TextStream(tokenizers["Words"])
    for wrong in (1.5, [[1]], ["a"]):
        with pytest.raises(
            ValueError, match=r"`ids` must be an integer, or integers \[L\], before `end`. Received: ids="
        ):
            stream.add(wrong)
    stream.end()
    with pytest.raises(ValueError, match=r"before `end`. Received: ids after `end`"):
        stream.add(4)
