"""The dates of the examples: as Babel writes them, of one meaning each, fairly split."""

import datetime
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("babel")
pytest.importorskip("tensorflow_datasets")
import babel.dates
import dates_dataset
from date_templates import LOCALES, STYLES, Template, default_reader, locale_templates
from dates_dataset import SPLITS, Dates, DatesConfig

pytestmark = pytest.mark.tensorflow

TEMPLATES = [t for locale in LOCALES for t in locale_templates(locale)]
SMALL = DatesConfig(name="small", first_year=1951, last_year=2080, renderings_per_date=4, description="Small.")
MARCH_12 = datetime.date(1987, 3, 12)
COLUMNS = ("source", "target", "locale")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("dates"))


@pytest.fixture(scope="module")
def rows(data_dir):
    """All (source, target, locale) of each split of the small configuration."""
    return {split: _rows(dates_dataset.load(split, data_dir, config=SMALL)) for split in SPLITS}


def _rows(dataset):
    batches = dataset.batch(1009).as_numpy_iterator()
    return [
        tuple(text.decode() for text in row)
        for batch in batches
        for row in zip(*(batch[column] for column in COLUMNS), strict=True)
    ]


def _texts(locale, date):
    return [template.write(date) for template in locale_templates(locale)]


def _readings(text):
    return default_reader().readings(text)


def test_there_are_many_locales_with_several_formats_each():
    assert len(set(LOCALES)) >= 40
    assert min(len(locale_templates(locale)) for locale in LOCALES) >= 5


@pytest.mark.parametrize(
    "locale, text",
    [
        ("fr", "jeudi 12 mars 1987"),
        ("en", "Thursday, March 12, 1987"),
        ("en", "3/12/87"),
        ("en_GB", "Thu 12 Mar 1987"),
        ("de", "12.03.1987"),
        ("es", "12 de marzo de 1987"),
        ("ko", "1987년 3월 12일"),
        ("zh", "1987年3月12日星期四"),
        ("vi", "12 tháng 3, 1987"),
        ("th", "12 มีนาคม ค.ศ. 1987"),
        ("sv", "1987-03-12"),
    ],
)
def test_known_texts_are_written(locale, text):
    assert text in _texts(locale, MARCH_12)
    assert MARCH_12 in _readings(text)


@pytest.mark.parametrize("style", STYLES)
def test_every_locale_has_the_style(style):
    for locale in LOCALES:
        assert babel.dates.format_date(MARCH_12, style, locale) in _texts(locale, MARCH_12)


def test_all_templates_write_what_babel_writes():
    rng = random.Random(7)
    for template in TEMPLATES:
        for month in range(1, 13):
            date = datetime.date(rng.randrange(1969, 2069), month, rng.randrange(1, 29))
            expected = babel.dates.format_date(date, template.pattern, template.locale)
            assert template.write(date) == expected, (template.locale, template.pattern)


def test_two_digit_years_name_one_century():
    short = Template.parse("d/M/yy", "el")
    assert short.write(datetime.date(1969, 1, 31)) == "31/1/69"
    assert short.write(datetime.date(2068, 12, 31)) == "31/12/68"
    assert short.write(datetime.date(1968, 12, 31)) is None
    assert short.write(datetime.date(2069, 1, 1)) is None
    assert _readings("31/1/69") == {datetime.date(1969, 1, 31)}


@pytest.mark.parametrize(
    "text, dates",
    [
        ("25/12/1987", ["1987-12-25"]),
        ("3/12/1987", ["1987-03-12", "1987-12-03"]),
        ("12.03.1987", ["1987-03-12"]),
        ("jeudi 12 mars 1987", ["1987-03-12"]),
        ("mercredi 12 mars 1987", []),  # it was a Thursday
        ("22 srp 2061", ["2061-07-22", "2061-08-22"]),  # Croatian July, Czech August
        ("12. listopada 1987.", ["1987-10-12"]),
        ("31/02/1987", []),
        ("no date", []),
        ("", []),
    ],
)
def test_readings(text, dates):
    assert sorted(date.isoformat() for date in _readings(text)) == dates


@settings(deadline=None)  # the first call builds the reader
@given(st.sampled_from(TEMPLATES), st.dates(datetime.date(1000, 1, 1), datetime.date(9999, 12, 31)))
def test_what_a_template_writes_is_read_back(template, date):
    text = template.write(date)
    if text is None:
        assert "yy" in template.slots
    else:
        assert date in _readings(text)


def test_readings_match_all_templates_tried_in_turn():
    dates = [
        datetime.date(year, month, day)
        for year in (2003, 2004, 2011)
        for month in range(1, 13)
        for day in (1, 3, 4, 11, 12, 25)
    ]
    meanings = {}
    for template in TEMPLATES:
        for date in dates:
            meanings.setdefault(template.write(date), set()).add(date)
    assert sum(len(found) > 1 for found in meanings.values()) > 100
    texts = random.Random(3).sample(sorted(meanings), 5003)
    for text in texts:
        assert _readings(text) & set(dates) == meanings[text], text
    for date in dates:
        for text, _ in dates_dataset.date_renderings(date, 4):
            assert meanings[text] == {date}, text


def test_no_text_has_two_dates(rows):
    meanings = {}
    for split in SPLITS:
        for source, target, _ in rows[split]:
            assert meanings.setdefault(source, target) == target, source
    assert len(meanings) > 150_000


def test_targets_are_iso_dates_that_the_locale_writes(rows):
    for source, target, locale in rows["test"]:
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", target)
        assert source in _texts(locale, datetime.date.fromisoformat(target))


def test_splits_share_no_date_and_have_all_locales(rows):
    dates = {split: {target for _, target, _ in rows[split]} for split in SPLITS}
    assert not dates["train"] & dates["validation"]
    assert not dates["train"] & dates["test"]
    assert not dates["validation"] & dates["test"]
    assert set.union(*dates.values()) == {date.isoformat() for date in SMALL.dates()}
    for split in SPLITS:
        assert {locale for _, _, locale in rows[split]} == set(LOCALES)


def test_the_split_follows_from_the_date_alone(rows):
    for split in SPLITS:
        for _, target, _ in rows[split]:
            assert dates_dataset.date_split(datetime.date.fromisoformat(target)) == split
    assert dates_dataset.date_split(MARCH_12) == "train"  # the hash is stable


def test_default_sizes():
    (config,) = Dates.BUILDER_CONFIGS
    dates = config.dates()
    assert (min(dates).isoformat(), max(dates).isoformat()) == ("1800-01-01", "2199-12-31")
    splits = [dates_dataset.date_split(date) for date in dates]
    pairs = {split: splits.count(split) * config.renderings_per_date for split in SPLITS}
    assert 200_000 < pairs["train"] < 300_000
    assert min(pairs["validation"], pairs["test"]) > 10_000


def test_renderings_are_different_and_always_the_same():
    for date in SMALL.dates()[:307]:
        renderings = dates_dataset.date_renderings(date, 4)
        assert len(dict(renderings)) == len(renderings) >= 2
        assert dates_dataset.date_renderings(date, 2) == renderings[:2]


def test_elements_are_string_scalars_and_keep_their_order(data_dir, rows):
    dataset = dates_dataset.load("test", data_dir, config=SMALL)
    assert set(dataset.element_spec) == set(COLUMNS)
    for spec in dataset.element_spec.values():
        assert (spec.shape.rank, spec.dtype.name) == (0, "string")
    assert _rows(dataset) == rows["test"]


def test_shuffling_is_seeded_and_new_in_every_pass(data_dir, rows):
    dataset = dates_dataset.load("test", data_dir, shuffle_seed=5, config=SMALL)
    again = dates_dataset.load("test", data_dir, shuffle_seed=5, config=SMALL)
    first, second = _rows(dataset), _rows(dataset)
    assert first != rows["test"] and first != second
    assert sorted(first) == sorted(second) == sorted(rows["test"])
    assert _rows(again) == first


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"`split` must be one of .* Received: split='dev'"):
        dates_dataset.load("dev")
    with pytest.raises(ValueError, match=r"`locale` must be one of .* Received: locale='xx'"):
        locale_templates("xx")
    with pytest.raises(ValueError, match=r"`slot` must be .* Received: slot='QQ'"):
        Template.parse("QQ y", "en")
    with pytest.raises(ValueError, match=r"`first_year` and `last_year` .* first_year=2001"):
        DatesConfig(name="bad", first_year=2001, last_year=2000)
    with pytest.raises(ValueError, match=r"`renderings_per_date` must .* renderings_per_date=5"):
        DatesConfig(name="bad", renderings_per_date=5)
