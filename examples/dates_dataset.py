"""Dates as people write them, in many languages, paired with their ISO form.

A TFDS builder that downloads nothing: words, order and punctuation come from the
Unicode CLDR data in Babel (Unicode licence), and change a little with its version.
French "jeudi 12 mars 1987" becomes "1987-03-12". Each text has one meaning only,
in whichever of the locales it is read: there is "25/12/1987" but no "3/12/1987".
Calendar and digits are the Gregorian and Western ones everywhere.
"""

import dataclasses
import datetime
import functools
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping

import babel
import babel.dates
import tensorflow as tf
import tensorflow_datasets as tfds

LOCALES = tuple(
    """af ar az be bg bn bs ca cs cy da de de_AT el en en_AU en_CA en_GB en_IN eo es es_MX
    et eu fa fi fil fr fr_CA ga gl he hi hr hu hy id is it ja ka kk ko lt lv mk ml ms nb nl
    nn pl pt pt_PT ro ru sk sl sq sr sv sw ta te th tr uk ur uz vi zh zh_Hant""".split()
)
STYLES = ("full", "long", "medium", "short")
SKELETONS = tuple("yMd yMEd yMMMd yMMMEd yMMMEEEEd yMMMMd yMMMMEd yMMMMEEEEd".split())
# What people write without CLDR's punctuation, by the order of the locale's long style.
PLAIN_PATTERNS = {
    "dMy": ("d MMMM y", "d MMM y", "EEE d MMM y", "EEEE d MMMM y"),
    "Mdy": ("MMMM d y", "MMM d y", "EEE MMM d y", "EEEE MMMM d y"),
}
SPLITS = ("train", "validation", "test")
TRAIN_PERCENT, VALIDATION_PERCENT = 90, 5
PAIRS_PER_RECORD = 500  # TFDS takes milliseconds a record, so a record holds many pairs
SHUFFLE_BUFFER = 20_000
MAX_RENDERINGS = 4
NUM_DRAWS = 14  # of four bytes each, after the eight bytes of a digest that give the split

FOUR_DIGIT_YEARS = range(1000, 10000)
TWO_DIGIT_YEARS = range(1969, 2069)  # the POSIX window, in which two digits name one year


@dataclasses.dataclass(frozen=True, eq=False)
class Template:
    """One way to write a date: fixed text with slots for day, month, year and weekday.

    Attributes:
        locale: the CLDR locale, such as "fr" or "en_GB".
        pattern: the CLDR pattern, such as "EEEE d MMMM y".
        layout: the fixed text, with "%s" for every slot.
        slots: the CLDR field of every slot, such as "EEEE".
        tables: for every slot, the text of every number it can show.
    """

    locale: str
    pattern: str
    layout: str
    slots: tuple[str, ...]
    tables: tuple[Mapping[int, str], ...]

    @classmethod
    def parse(cls, pattern: str, locale: str) -> "Template":
        """Compiles a CLDR pattern; its era is fixed text, as all dates are AD."""
        layout, slots = "", list[str]()
        for _, token in babel.dates.tokenize_pattern(pattern):
            if isinstance(token, str):
                layout += token.replace("%", "%%")
                continue
            letter, width = token
            field = letter * width
            if letter == "G":
                layout += babel.dates.format_date(datetime.date(2000, 1, 1), field, locale)
            else:
                layout += "%s"
                slots.append(field)
        return cls(locale, pattern, layout, tuple(slots), tuple(_table(s, locale) for s in slots))

    def write(self, date: datetime.date) -> str | None:
        """What `babel.dates.format_date` gives; `None` if the century would be lost."""
        month, weekday = date.month, date.weekday()
        day_year = {"d": date.day, "y": date.year}
        numbers = day_year | {"M": month, "L": month, "E": weekday, "c": weekday}
        slots = zip(self.slots, self.tables, strict=True)
        texts = [table.get(numbers[slot[0]]) for slot, table in slots]
        return None if None in texts else self.layout % tuple(texts)


@functools.cache
def _table(slot: str, locale: str) -> Mapping[int, str]:
    """The text of every number that a slot can show, such as {1: "mars", ...}."""
    if slot == "y":
        return {year: str(year) for year in FOUR_DIGIT_YEARS}
    if slot == "yy":
        return {year: f"{year % 100:02d}" for year in TWO_DIGIT_YEARS}
    if slot in ("d", "dd"):
        return {day: f"{day:0{len(slot)}d}" for day in range(1, 32)}
    if slot[0] in "ML":
        numbered = {month: datetime.date(2000, month, 1) for month in range(1, 13)}
    elif slot[0] in "Ec":
        numbered = {weekday: datetime.date(2000, 1, 3 + weekday) for weekday in range(7)}
    else:
        raise ValueError(f"`slot` must be a field of a date. Received: slot={slot!r}")
    return {i: babel.dates.format_date(date, slot, locale) for i, date in numbered.items()}


@functools.cache
def locale_templates(locale: str) -> tuple[Template, ...]:
    """All templates of one locale, each pattern once."""
    if locale not in LOCALES:
        raise ValueError(f"`locale` must be one of {LOCALES}. Received: locale={locale!r}")
    data = babel.Locale.parse(locale)
    patterns = [data.date_formats[style].pattern for style in STYLES]
    known = data.datetime_skeletons
    patterns += [known[skeleton].pattern for skeleton in SKELETONS if skeleton in known]
    long_style = Template.parse(data.date_formats["long"].pattern, locale)
    patterns += PLAIN_PATTERNS.get("".join(slot[0] for slot in long_style.slots), ())
    return tuple(Template.parse(pattern, locale) for pattern in dict.fromkeys(patterns))


class Reader:
    """Finds every date that a text can mean under any of the given templates.

    A text is looked up by its shape, the text with "#" for each run of digits. A
    template has one shape for every choice of its month and weekday names.
    """

    _NUMBER = re.compile(r"\d+|\{[dMLy]+\}")

    def __init__(self, templates: Iterable[Template]):
        self._shapes: dict[str, dict] = {}
        for template in templates:
            for text, month, weekday in self._outlines(template):
                numbers = self._NUMBER.findall(text)
                places = {number[1:2]: place for place, number in enumerate(numbers)}
                month_place = places.get("M", places.get("L"))
                entry = (template, places["y"], month_place, places["d"], month)
                same_shape = self._shapes.setdefault(self._NUMBER.sub("#", text), {})
                same_shape.setdefault((text, month, weekday), entry)

    def readings(self, text: str) -> set[datetime.date]:
        """The dates that some template writes as exactly this text."""
        numbers = [int(number) for number in self._NUMBER.findall(text)]
        dates = set()
        for template, year_place, month_place, day_place, month in self._shapes.get(
            self._NUMBER.sub("#", text), {}
        ).values():
            year, day = numbers[year_place], numbers[day_place]
            if year < 100:
                year = TWO_DIGIT_YEARS[year - TWO_DIGIT_YEARS.start % 100]
            if month_place is not None:
                month = numbers[month_place]
            try:
                date = datetime.date(year, month, day)
            except ValueError:  # no such day in the calendar
                continue
            if template.write(date) == text:
                dates.add(date)
        return dates

    def _outlines(self, template: Template) -> Iterator[tuple[str, int, int]]:
        """The text for each month and weekday name, with "{dd}" and such for the numbers."""
        named = {slot[0] for slot in template.slots if slot[0] in "Ec" or len(slot) > 2}
        months = range(1, 13) if named & set("ML") else (0,)
        weekdays = range(7) if named & set("Ec") else (0,)
        for month, weekday in itertools.product(months, weekdays):
            names = {"M": month, "L": month, "E": weekday, "c": weekday}
            texts = [
                table[names[slot[0]]] if slot[0] in named else f"{{{slot}}}"
                for slot, table in zip(template.slots, template.tables, strict=True)
            ]
            yield template.layout % tuple(texts), month, weekday


@functools.cache
def default_reader() -> Reader:
    """The reader of all templates of all locales, against which texts are checked."""
    return Reader(itertools.chain.from_iterable(map(locale_templates, LOCALES)))


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
    """Up to `count` different (text, locale) of a date, none of which can mean another date."""
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
        """All dates in the order of their hashes, so that neighbours are unrelated."""
        first = datetime.date(self.first_year, 1, 1).toordinal()
        last = datetime.date(self.last_year, 12, 31).toordinal()
        return sorted(map(datetime.date.fromordinal, range(first, last + 1)), key=date_digest)


class Dates(tfds.core.GeneratorBasedBuilder):
    """Written dates of many locales and their ISO form; one record holds many pairs."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [DatesConfig(name="years_1800_to_2199")]

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
            source, target, locale = map(
                list, zip(*pairs[start : start + PAIRS_PER_RECORD], strict=True)
            )
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
        shuffle_seed: if given, the pairs are shuffled, anew in every pass.
        config: the dates to make, under a name of its own; four centuries if `None`.

    Returns:
        A dataset of {"source": "jeudi 12 mars 1987", "target": "1987-03-12",
        "locale": "fr"}, string scalars all.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")
    builder = Dates(data_dir=data_dir, config=config)
    builder.download_and_prepare()
    records = builder.as_dataset(split=split, read_config=tfds.ReadConfig(try_autocache=False))
    if shuffle_seed is None:
        return records.unbatch()
    num_records = builder.info.splits[split].num_examples
    shuffled = records.shuffle(num_records, seed=shuffle_seed).unbatch()
    return shuffled.shuffle(SHUFFLE_BUFFER, seed=shuffle_seed)
