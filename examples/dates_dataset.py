"""Dates as people write them, in many languages, paired with their ISO form.

A TFDS builder that downloads nothing: words, order and punctuation come from the
Unicode CLDR data in Babel (Unicode license), and change slightly with its version.
French "jeudi 12 mars 1987" becomes "1987-03-12". Each text has the same meaning in
all locales: "25/12/1987" is in the data, "3/12/1987" is not. The calendar is always
the Gregorian one, and digits are Western.
"""

import dataclasses
import datetime
import hashlib
import typing

import quiet
import tensorflow as tf
import tensorflow_datasets as tfds
from date_templates import LOCALES, default_reader, locale_templates

SPLITS = ("train", "validation", "test")
TRAIN_PERCENT, VALIDATION_PERCENT = 90, 5
PAIRS_PER_RECORD = 500  # TFDS takes milliseconds per record, so a record contains many pairs
SHUFFLE_BUFFER = 20_000
MAX_RENDERINGS = 4
NUM_DRAWS = 14  # of four bytes each, after the eight bytes of a digest that determine the split


def date_digest(date: datetime.date) -> bytes:
    """The stable hash from which a date's split and renderings are drawn."""
    return hashlib.blake2b(date.isoformat().encode(), digest_size=64).digest()


def date_split(date: datetime.date) -> str:
    """The split of a date, the same in every locale and format."""
    percent = int.from_bytes(date_digest(date)[:8], "big") % 100
    if percent < TRAIN_PERCENT:
        return "train"
    return "validation" if percent < TRAIN_PERCENT + VALIDATION_PERCENT else "test"


def date_renderings(date: datetime.date, count: int) -> list[tuple[str, str]]:
    """Up to `count` different (text, locale) of a date that cannot mean another date."""
    digest = date_digest(date)
    renderings = {}
    for start in range(8, 8 + 4 * NUM_DRAWS, 4):
        locale = LOCALES[int.from_bytes(digest[start : start + 2], "big") % len(LOCALES)]
        templates = locale_templates(locale)
        template = templates[int.from_bytes(digest[start + 2 : start + 4], "big") % len(templates)]
        text = template.write(date)
        if text and text not in renderings and default_reader().readings(text) == {date}:
            renderings[text] = locale
        if len(renderings) == count:
            break
    return list(renderings.items())


@dataclasses.dataclass(kw_only=True)
class DatesConfig(tfds.core.BuilderConfig):
    """All days of `first_year` to `last_year`, each in up to `renderings_per_date` texts."""

    first_year: int = 1800
    last_year: int = 2199
    renderings_per_date: int = 2

    def __post_init__(self):
        if not 1000 <= self.first_year <= self.last_year <= 9999:
            raise ValueError(
                "`first_year` and `last_year` must be in order and of four digits. "
                f"Received: first_year={self.first_year}, last_year={self.last_year}"
            )
        if not 1 <= self.renderings_per_date <= MAX_RENDERINGS:
            raise ValueError(
                f"`renderings_per_date` must be from 1 to {MAX_RENDERINGS}. "
                f"Received: renderings_per_date={self.renderings_per_date}"
            )

    def dates(self) -> list[datetime.date]:
        """All dates in the order of their hashes, so that successive dates are unrelated."""
        first = datetime.date(self.first_year, 1, 1).toordinal()
        last = datetime.date(self.last_year, 12, 31).toordinal()
        return sorted(map(datetime.date.fromordinal, range(first, last + 1)), key=date_digest)


class Dates(tfds.core.GeneratorBasedBuilder):
    """Written dates of many locales and their ISO form; one record contains many pairs."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: typing.ClassVar = [DatesConfig(name="years_1800_to_2199")]

    def _info(self) -> tfds.core.DatasetInfo:
        texts = tfds.features.Tensor(shape=(None,), dtype=tf.string)
        features = tfds.features.FeaturesDict({"source": texts, "target": texts, "locale": texts})
        return tfds.core.DatasetInfo(builder=self, description=__doc__, features=features)

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        dates = {split: [] for split in SPLITS}
        for date in self.builder_config.dates():
            dates[date_split(date)].append(date)
        return {split: self._generate_examples(dates[split]) for split in SPLITS}

    def _generate_examples(self, dates):
        pairs = [
            (text, date.isoformat(), locale)
            for date in dates
            for text, locale in date_renderings(date, self.builder_config.renderings_per_date)
        ]
        for start in range(0, len(pairs), PAIRS_PER_RECORD):
            source, target, locale = map(list, zip(*pairs[start : start + PAIRS_PER_RECORD], strict=True))
            yield start, {"source": source, "target": target, "locale": locale}


def load(
    split: str,
    data_dir: str | None = None,
    shuffle_seed: int | None = None,
    config: DatesConfig | None = None,
) -> tf.data.Dataset:
    """The pairs of one split; the first call writes them to disk.

    Args:
        split: "train", "validation" or "test". No date is in two splits.
        data_dir: where TFDS keeps its files; its default folder if `None`.
        shuffle_seed: if given, the pairs are shuffled again in every epoch.
        config: the dates to generate, with another name; four centuries if `None`.

    Returns:
        A dataset of {"source": "jeudi 12 mars 1987", "target": "1987-03-12",
        "locale": "fr"}, all string scalars.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")
    builder = Dates(data_dir=data_dir, config=config)
    quiet.prepare(builder)
    records = builder.as_dataset(split=split, read_config=tfds.ReadConfig(try_autocache=False))
    if shuffle_seed is None:
        return records.unbatch()
    num_records = builder.info.splits[split].num_examples
    shuffled = records.shuffle(num_records, seed=shuffle_seed).unbatch()
    return shuffled.shuffle(SHUFFLE_BUFFER, seed=shuffle_seed)
