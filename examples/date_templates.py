"""Templates that write a date in many languages, and a reader of the texts that they write.

Words, order and punctuation come from the Unicode CLDR data in Babel (Unicode license),
and change slightly with its version. The calendar is always the Gregorian one, and digits
are Western.
"""

import dataclasses
import datetime
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping

import babel
import babel.dates

LOCALES = tuple(
    """af ar az be bg bn bs ca cs cy da de de_AT el en en_AU en_CA en_GB en_IN eo es es_MX
    et eu fa fi fil fr fr_CA ga gl he hi hr hu hy id is it ja ka kk ko lt lv mk ml ms nb nl
    nn pl pt pt_PT ro ru sk sl sq sr sv sw ta te th tr uk ur uz vi zh zh_Hant""".split()  # noqa: SIM905 - a line of words reads better than a list of strings
)
STYLES = ("full", "long", "medium", "short")
SKELETONS = tuple("yMd yMEd yMMMd yMMMEd yMMMEEEEd yMMMMd yMMMMEd yMMMMEEEEd".split())  # noqa: SIM905
# Common forms without CLDR's punctuation, by the order of the locale's long style.
PLAIN_PATTERNS = {
    "dMy": ("d MMMM y", "d MMM y", "EEE d MMM y", "EEEE d MMMM y"),
    "Mdy": ("MMMM d y", "MMM d y", "EEE MMM d y", "EEEE MMMM d y"),
}
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
        tables: for every slot, the text of every number that it can show.
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
        """The text of `babel.dates.format_date`; `None` if the century would be lost."""
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

    A text is looked up by its shape: the text with "#" for each run of digits. A
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
        """The text for each month and weekday name, with placeholders for the numbers, for instance "{dd}"."""
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
    """The reader of all templates of all locales; it checks that a text has one meaning."""
    return Reader(itertools.chain.from_iterable(map(locale_templates, LOCALES)))
