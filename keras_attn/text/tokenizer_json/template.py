"""The post-processors of a tokenizer.json: special tokens around one text or two, and truncation to make room."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, kind, read, refuse

Part = tuple[int, int]
"""A special id, or -1 for the first text and -2 for the second; and its segment, 0 or 1."""

FIRST, SECOND = -1, -2


@dataclasses.dataclass(frozen=True)
class Template:
    """What stands around texts.

    Attributes:
        single, pair: The parts of a row of one text and of two.
        trimmed: None, or whether a space in front of the first word was added: then offsets leave out spaces.
    """

    single: tuple[Part, ...] = ((FIRST, 0),)
    pair: tuple[Part, ...] = ((FIRST, 0), (SECOND, 0))
    trimmed: bool | None = None

    def without_end(self, end: int) -> Template:
        """Returns a template whose row of one text does not end with the id `end`."""
        single = self.single
        while single and single[-1][0] == end:
            single = single[:-1]
        return dataclasses.replace(self, single=single)

    def row(self, pieces: tf.RaggedTensor, max_length: int | None, special: int | None = None) -> tf.RaggedTensor:
        """Returns ragged ids `[B, None]` with the special ids, or `special` in their places."""
        if max_length is not None:
            pieces = pieces[:, : max(max_length - special_tokens(self.single), 0)]
        return assemble(self.single, [pieces], special)

    def rows(
        self, pieces: tf.RaggedTensor, others: tf.RaggedTensor, max_length: int | None
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Returns the ids and the segments of pairs of texts."""
        if max_length is not None:
            room = max(max_length - special_tokens(self.pair), 0)
            pieces, others = longest_first(pieces, others, room)
        segments = tuple((part if part < 0 else segment, segment) for part, segment in self.pair)
        numbers = {FIRST: 0, SECOND: 0} | dict(self.pair)
        filled = [tf.ones_like(each) * numbers[part] for part, each in ((FIRST, pieces), (SECOND, others))]
        return assemble(self.pair, [pieces, others]), assemble(segments, filled)


def assemble(parts: tuple[Part, ...], texts: list[tf.RaggedTensor], special: int | None = None) -> tf.RaggedTensor:
    """Returns the parts of a template in one row."""
    num_rows = texts[0].nrows()
    columns = [
        texts[-1 - part] if part < 0 else tf.fill([num_rows, 1], part if special is None else special)
        for part, _ in parts
    ]
    return tf.concat(columns, axis=1)


def special_tokens(parts: tuple[Part, ...]) -> int:
    """Returns the number of special ids in a template."""
    return sum(part >= 0 for part, _ in parts)


def longest_first(
    first: tf.RaggedTensor, second: tf.RaggedTensor, room: int
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Returns pairs of rows with at most `room` ids together: the longer of the two is cut, then both to halves."""
    sizes = first.row_lengths(), second.row_lengths()
    short = tf.minimum(*sizes)
    limit = tf.where(short > room, short, tf.maximum(short, room - short))
    over = short + limit > room
    few = tf.where(over, tf.constant(room // 2, short.dtype), short)
    many = tf.where(over, tf.constant(room // 2 + room % 2, short.dtype), limit)
    swapped = sizes[0] > sizes[1]
    cut = sizes[0] + sizes[1] > room
    kept = tf.where(swapped, many, few), tf.where(swapped, few, many)
    return tuple(
        head(row, tf.where(cut, tf.minimum(size, number), size))
        for row, size, number in zip((first, second), sizes, kept, strict=True)
    )


def head(rows: tf.RaggedTensor, sizes: tf.Tensor) -> tf.RaggedTensor:
    """Returns the first values of each row, as many as `sizes` `[B]` says."""
    places = tf.range(tf.size(rows.flat_values, tf.int64)) - tf.gather(rows.row_splits, rows.value_rowids())
    return tf.ragged.boolean_mask(rows, rows.with_values(places < tf.gather(sizes, rows.value_rowids())))


def template(section: Section | None, path: str = "post_processor") -> Template:
    """Returns the template of a section, or raises a `ValueError` that names what is unknown."""
    if section is None:
        return Template()
    name = kind(section, path)
    if name not in KINDS:
        refuse(f"{path}.type", name)
    return KINDS[name](section, path)


def bert(section: Section, path: str) -> Template:
    """`[CLS] a [SEP] b [SEP]`, the second text in segment 1."""
    fields = read(section, path, sep=REQUIRED, cls=REQUIRED)
    start, end = int(fields["cls"][1]), int(fields["sep"][1])
    single = ((start, 0), (FIRST, 0), (end, 0))
    return Template(single, (*single, (SECOND, 1), (end, 1)))


def roberta(section: Section, path: str) -> Template:
    """`<s> a </s> </s> b </s>`, all in segment 0."""
    fields = read(section, path, sep=REQUIRED, cls=REQUIRED, trim_offsets=True, add_prefix_space=True)
    start, end = int(fields["cls"][1]), int(fields["sep"][1])
    single = ((start, 0), (FIRST, 0), (end, 0))
    trimmed = bool(fields["add_prefix_space"]) if fields["trim_offsets"] else None
    return Template(single, (*single, (end, 0), (SECOND, 0), (end, 0)), trimmed)


def byte_level(section: Section, path: str) -> Template:
    """Nothing but offsets without spaces."""
    fields = read(section, path, add_prefix_space=True, trim_offsets=True, use_regex=True)
    return Template(trimmed=bool(fields["add_prefix_space"]) if fields["trim_offsets"] else None)


def processing(section: Section, path: str) -> Template:
    """The rows that the file writes out."""
    fields = read(section, path, single=REQUIRED, pair=REQUIRED, special_tokens={})
    tokens: Section = fields["special_tokens"]
    single, pair = (tuple(parts(fields[name], tokens, f"{path}.{name}")) for name in ("single", "pair"))
    return Template(single, pair)


def parts(rows: list[Section], tokens: Section, path: str) -> list[Part]:
    """Returns the parts of a template that a file writes out."""
    found: list[Part] = []
    for row in rows:
        ((name, fields),) = row.items()
        segment = int(fields.get("type_id", 0))
        if name == "Sequence" and fields.get("id") in ("A", "B"):
            found.append((FIRST if fields["id"] == "A" else SECOND, segment))
        elif name == "SpecialToken" and fields.get("id") in tokens:
            found += [(int(special), segment) for special in tokens[fields["id"]]["ids"]]
        else:
            refuse(path, row)
    return found


def sequence(section: Section, path: str) -> Template:
    """Several post-processors, of which one may have special tokens."""
    sections = read(section, path, processors=REQUIRED)["processors"]
    steps = [template(part, f"{path}.processors[{index}]") for index, part in enumerate(sections)]
    framed = [step for step in steps if special_tokens(step.single) or special_tokens(step.pair)]
    if len(framed) > 1:
        refuse(f"{path}.processors", sections, "have special tokens in one part only")
    whole = framed[0] if framed else Template()
    trims = [step.trimmed for step in steps if step.trimmed is not None]
    return dataclasses.replace(whole, trimmed=trims[0] if trims else None)


KINDS = {
    "BertProcessing": bert,
    "ByteLevel": byte_level,
    "RobertaProcessing": roberta,
    "Sequence": sequence,
    "TemplateProcessing": processing,
}
