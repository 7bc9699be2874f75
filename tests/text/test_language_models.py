"""`PretrainedTokenizer` is equal to the `tokenizers` package for the tokenizers of language models."""

import functools
import random

import pytest
import tensorflow as tf

from keras_attn.base.special_ids import SpecialIds
from keras_attn.text import PretrainedTokenizer

from . import language_models as reference
from .pretrained_texts import (
    SEED,
    TEXTS,
    check_decoding,
    check_equal,
    every_code_point,
    normalizers,
    pre_tokenizers,
    tokenizers,
)

pytestmark = pytest.mark.tensorflow

KINDS = {
    "llama": reference.llama,
    "llama 2": reference.llama_2,
    "gemma": reference.gemma,
    "unknown tokens are one": lambda: reference.unknown(True),
    "unknown tokens are several": lambda: reference.unknown(False),
    "smollm": reference.smol_lm,
    "t5": reference.t5,
    "unigram with bytes": reference.unigram_with_bytes,
}
WITH_BYTES = ["llama", "llama 2", "gemma", "unigram with bytes"]
BEHAVIORS = ["isolated", "removed", "contiguous", "merged_with_next", "merged_with_previous"]
each_kind = pytest.mark.parametrize("kind", KINDS)


def ours_of(theirs):
    return PretrainedTokenizer(theirs.to_str().encode(), max_length=None, special_ids=SpecialIds(None, 1, 2, None))


@functools.lru_cache(None)
def both(kind):
    """Our tokenizer and the reference."""
    theirs = KINDS[kind]()
    return ours_of(theirs), theirs


@each_kind
def test_ids_and_offsets_are_equal(kind):
    assert len(TEXTS) == 10_000
    check_equal(*both(kind), TEXTS)


@each_kind
def test_decoded_texts_are_equal(kind):
    check_decoding(*both(kind))


@each_kind
def test_texts_come_back_alike(kind):
    ours, theirs = both(kind)
    ids = ours.ragged(TEXTS[:2000])
    assert [text.decode() for text in ours.detokenize(ids).numpy()] == theirs.decode_batch(ids.to_list())


@each_kind
def test_a_sample_of_all_code_points_is_equal(kind):
    check_equal(*both(kind), every_code_point(step=101))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "smollm"])
def test_all_code_points_are_equal(kind):
    check_equal(*both(kind), every_code_point(), batch_size=64)


@pytest.mark.parametrize("kind", WITH_BYTES)
def test_runs_of_bytes_decode_alike(kind):
    """Valid bytes, bytes with one left out, changed or added, and tokens, special ones too, between them."""
    ours, theirs = both(kind)
    rng = random.Random(SEED)
    of_bytes = [theirs.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
    characters = "aé€日😀\u0301\u200d\ufffd\n\0\ud7ff\ue000\U0010ffff"
    broken = [b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xff", b"\xf0\x9f\x98"]
    rows = []
    for _ in range(5_000):
        row = []
        for _ in range(rng.randint(0, 6)):
            if rng.random() < 0.3:
                row.append(rng.randrange(theirs.get_vocab_size() + 2))
            elif rng.random() < 0.2:
                row += [of_bytes[byte] for byte in rng.choice(broken)]
            else:
                row += [of_bytes[byte] for byte in rng.choice(characters).encode()]
        if row and rng.random() < 0.3:
            row[rng.randrange(len(row))] = rng.choice([*of_bytes, 0, 1, 2])
        rows.append(row)
    decoded = [text.decode() for text in ours.detokenize(tf.ragged.constant(rows, dtype=tf.int32)).numpy()]
    assert decoded == theirs.decode_batch(rows)
    assert min(sum(part in text for text in decoded) for part in ("\ufffd", "😀", "\u0301")) > 200  # all cases occur


@pytest.mark.parametrize("behavior", BEHAVIORS)
@pytest.mark.parametrize("invert", [False, True])
def test_splits_at_texts_are_equal(behavior, invert):
    spaces = normalizers.Sequence(
        [normalizers.Replace(tokenizers.Regex(r"\s{2,}|[\n\r\t]"), " "), normalizers.Replace("the", "@@")]
    )
    step = pre_tokenizers.Split("aa" if invert else "a", behavior, invert=invert)
    theirs = reference.with_words(step, normalizer=spaces)
    check_equal(ours_of(theirs), theirs, TEXTS[:2000])


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_splits_at_punctuation_are_equal(behavior):
    lines = normalizers.Sequence([normalizers.Replace(tokenizers.Regex(r"\n"), " "), normalizers.Replace("``", '"')])
    theirs = reference.with_words(pre_tokenizers.Punctuation(behavior), normalizer=lines)
    check_equal(ours_of(theirs), theirs, [*TEXTS[:2000], *every_code_point(step=307)])


@pytest.mark.parametrize("individual", [False, True])
def test_splits_into_words_and_digits_are_equal(individual):
    runs = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    words = pre_tokenizers.Whitespace() if individual else pre_tokenizers.Split(" ", "isolated")
    theirs = reference.with_words(words, pre_tokenizers.Digits(individual), normalizer=runs)
    check_equal(ours_of(theirs), theirs, [*TEXTS[:2000], *every_code_point(step=13)])


@pytest.mark.parametrize("seed", range(8))
def test_added_tokens_with_all_options_are_equal(seed):
    maker = [reference.llama_2, reference.gemma, reference.llama, reference.smol_lm][seed % 4]
    tokenizer = maker()
    if seed == 5:
        tokenizer.normalizer = normalizers.Lowercase()
    if seed == 7:
        tokenizer = reference.t5()
    theirs, texts = reference.with_added_tokens(tokenizer, seed)
    ours = ours_of(theirs)
    rows = ours.ragged(texts).to_list()
    assert rows == [encoding.ids for encoding in theirs.encode_batch(texts)]
    assert [text.decode() for text in ours.detokenize(ours.ragged(texts)).numpy()] == theirs.decode_batch(rows)


def test_unknown_characters_may_be_left_out():
    theirs = reference.dropped()  # the offsets of `tokenizers` do not count what is left out
    rows = ours_of(theirs).ragged(TEXTS).to_list()
    assert rows == [encoding.ids for encoding in theirs.encode_batch(TEXTS)]


def test_long_texts_are_read_whole():
    ours, theirs = both("llama 2")
    texts = ["word " * 2000, "a" * 10_000, "▁" * 9_999, "日本語" * 3_333, " " * 10_000, "\0\1" * 5_000]
    assert ours.ragged(texts).to_list() == [encoding.ids for encoding in theirs.encode_batch(texts)]
