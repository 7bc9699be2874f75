"""Sources of pairs: TSV files, Python iterables and `tf.data` datasets; all become one dataset of numbered pairs."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import Slot, register
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.types import ArrayLike, Tensor
from keras_attn.data.report import Report
from keras_attn.text.tokenizer import Tokenizer

PAIR_SIDES = ("source", "target")


@register
class Ids(Slot):
    """Replaces a tokenizer if the texts are ids already.

    Texts may contain the ids of pieces and the unknown id. Start, end and padding ids are added later;
    pairs that contain them, or ids outside the vocabulary, are dropped and counted.

    Args:
        vocabulary_size: Number of ids, including the special ids.
        special_ids: The `SpecialIds`; 0 padding, 1 start, 2 end, 3 unknown by default.

    Raises:
        ValueError: If the vocabulary has special ids only, or its ids do not fit into 32 bits.

    Example:
    >>> from keras_attn import data
    >>> pairs = data.encode([([5, 6], [7]), ([5], [99])], data.Ids(10), data.Ids(10))
    2 pairs read, 1 kept, 1 left out:
             1  target ids outside 3 ... 9
    pair 2, target ids outside 3 ... 9: [5] -> [99]
    >>> pairs.source[0].tolist()
    [5, 6, 2]
    """

    max_length: int | None = None

    def __init__(self, vocabulary_size: int, special_ids: SpecialIds | None = None) -> None:
        special_ids = special_ids_or_default(special_ids)
        highest = max(special_ids.ids)
        must = f"be an integer above {highest}, at most 2**31"
        check_number("vocabulary_size", vocabulary_size, int, must=must, above=highest, at_most=2**31)
        self.vocabulary_size = vocabulary_size
        self.special_ids = special_ids

    def pieces(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns ids `[n, None]` unchanged."""
        return ids


Reader: TypeAlias = Tokenizer | Ids
"""The reader of one side of the pairs."""

Readers: TypeAlias = tuple[Reader, Reader]
"""The readers of the source and of the target."""

Text: TypeAlias = str | bytes | ArrayLike
"""A text as a string, or as ids."""


class Tsv:
    r"""A UTF-8 file with one pair per line, in columns separated by tabs.

    Lines with another number of columns, or that are not UTF-8, are broken: they are dropped and
    reported with their number. Quotes have no meaning, and only line ends are stripped.

    Args:
        path: Path of the file.
        source_column, target_column: Columns of the texts, from 0.
        num_columns: Number of columns of each line.

    Raises:
        ValueError: If a column does not exist, or both are the same.

    Example:
    >>> import pathlib, tempfile
    >>> from keras_attn import data, text
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "pairs.tsv"
    >>> _ = path.write_text("a b\tB\nbroken\n")
    >>> pairs = data.encode(data.Tsv(path), text.Words(["a", "b"]), text.Words(["B"]))
    2 lines read, 1 kept, 1 left out:
             1  broken line
    line 2, broken line: 1 of 2 columns: 'broken'
    """

    unit = "line"

    def __init__(
        self, path: str | os.PathLike[str], source_column: int = 0, target_column: int = 1, num_columns: int = 2
    ) -> None:
        check_positive("num_columns", num_columns)
        for name, column in (("source_column", source_column), ("target_column", target_column)):
            check_number(name, column, int, must=f"be in 0 ... {num_columns - 1}", at_least=0, below=num_columns)
        if source_column == target_column:
            raise ValueError(f"`target_column` must differ from `source_column`. Received: {target_column} twice.")
        self.path = pathlib.Path(path)
        self.source_column = source_column
        self.target_column = target_column
        self.num_columns = num_columns

    def read(self, report: Report) -> Iterator[tuple[int, str, str]]:
        """Yields the number, source and target of each line; counts broken lines in the report."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    report.drop("broken line", number, f"not UTF-8: {line!r}")
                    continue
                columns = text.rstrip("\r\n").split("\t")
                if len(columns) == self.num_columns:
                    yield number, columns[self.source_column], columns[self.target_column]
                else:
                    what = f"{len(columns)} of {self.num_columns} columns"
                    report.drop("broken line", number, f"{what}: {text.rstrip()!r}")


PairOfTexts: TypeAlias = Sequence[Text] | Mapping[str, Text]
"""A source and a target, or a mapping with the keys "source" and "target"."""

PairSource: TypeAlias = "tf.data.Dataset | Tsv | Iterable[PairOfTexts]"
"""The data sets that `encode` can read."""


class Items:
    """The pairs of a Python iterable.

    Args:
        items: Pairs, or mappings with the keys "source" and "target".
        readers: The tokenizer or `Ids` of each side.
    """

    unit = "pair"

    def __init__(self, items: Iterable[PairOfTexts], readers: Readers) -> None:
        self.items = items
        self.readers = readers

    def read(self, report: Report) -> Iterator[tuple[int, bytes | np.ndarray, bytes | np.ndarray]]:
        """Yields the number, source and target of each pair; counts other items in the report."""
        for number, item in enumerate(self.items, start=1):
            sides = [item.get(side) for side in PAIR_SIDES] if isinstance(item, Mapping) else item
            if isinstance(sides, (list, tuple, np.ndarray)) and len(sides) == len(PAIR_SIDES):
                source, target = (as_side(side, reader) for side, reader in zip(sides, self.readers, strict=True))
                if source is not None and target is not None:
                    yield number, source, target
                    continue
            report.drop("not a pair", number, repr(item))


def as_side(value: Text, reader: Reader) -> bytes | np.ndarray | None:
    """Returns a text as bytes, ids as an array, or None for other values."""
    if isinstance(reader, Ids):
        if isinstance(value, (str, bytes)) or not isinstance(value, (Iterable, np.ndarray)):
            return None
        try:
            ids = np.asarray(value)
        except ValueError:  # lists of unequal lengths inside
            return None
        return ids.astype("int64") if ids.ndim == 1 and (ids.dtype.kind in "iu" or not ids.size) else None
    if (
        not isinstance(value, (str, bytes))
        and tf.is_tensor(value)
        and value.dtype == tf.string
        and value.shape.rank == 0
    ):
        value = value.numpy()
    try:
        return value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else None
    except UnicodeEncodeError:  # half a surrogate pair
        return None


def numbered_chunks(pairs: PairSource, readers: Readers, report: Report, size: int) -> tf.data.Dataset:
    """Returns a `tf.data.Dataset` of numbers, sources and targets, with several pairs per element.

    Args:
        pairs: A `Tsv`, a `tf.data.Dataset` or an iterable of pairs.
        readers: The tokenizer or `Ids` of each side.
        report: The `Report` that counts pairs that cannot be read.
        size: Number of pairs per element; the last element may have fewer.

    Raises:
        ValueError: If `pairs` is none of these, or a `Tsv`, whose columns are texts, has an `Ids` reader.
    """
    if isinstance(pairs, tf.data.Dataset):
        return numbered_dataset(pairs, readers).ragged_batch(size)
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, (Iterable, Tsv)):
        raise ValueError(
            "`dataset` must be a `tf.data.Dataset`, a `Tsv` or an iterable of pairs. "
            f"Received: {pairs.__class__.__name__}."
        )
    if isinstance(pairs, Tsv) and any(isinstance(reader, Ids) for reader in readers):
        raise ValueError("A `Tsv` contains texts: `source` and `target` must be tokenizers. Received: `Ids`.")
    items = pairs if isinstance(pairs, Tsv) else Items(pairs, readers)
    report.unit = items.unit
    numbers, *sides = list(zip(*items.read(report), strict=True)) or [(), (), ()]
    columns = tf.constant(numbers, "int64"), *map(as_column, sides, readers)
    starts = tf.data.Dataset.range(0, len(numbers), size)
    return starts.map(lambda start: tuple(column[start : start + size] for column in columns))


def as_column(values: Sequence[str | bytes | np.ndarray], reader: Reader) -> tf.Tensor | tf.RaggedTensor:
    """Returns one side of all pairs: strings `[P]` or ragged ids `[P, None]`."""
    if isinstance(reader, Tokenizer):
        return tf.constant(values, "string", shape=(len(values),))
    flat = np.concatenate([np.zeros(0, "int64"), *values])
    return tf.RaggedTensor.from_row_lengths(flat, np.array([len(ids) for ids in values], "int64"))


def numbered_dataset(dataset: tf.data.Dataset, readers: Readers) -> tf.data.Dataset:
    """Returns a dataset of numbered pairs, after checking the elements of `dataset`."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`dataset` must end: leave out `repeat()`. Received: an infinite dataset.")
    spec = dataset.element_spec
    sides = [spec.get(side) for side in PAIR_SIDES] if isinstance(spec, dict) else spec
    if not isinstance(sides, (tuple, list)) or len(sides) != len(PAIR_SIDES):
        sides = [None, None]
    for side, given, reader in zip(PAIR_SIDES, sides, readers, strict=True):
        text = isinstance(reader, Tokenizer)
        # The specification of a row of a ragged tensor is a ragged one, although the row is a plain tensor.
        known = isinstance(given, tf.TensorSpec) or (isinstance(given, tf.RaggedTensorSpec) and not given.ragged_rank)
        known = known and given.shape.rank == (0 if text else 1)
        if not known or not (given.dtype == tf.string if text else given.dtype.is_integer):
            wanted = "a string scalar" if text else "integers [None]"
            raise ValueError(
                'The elements of `dataset` must be pairs, or have the keys "source" and "target"; '
                f"the {side} must be {wanted}. Received: dataset.element_spec={spec}."
            )

    def flat(number: tf.Tensor, pair: Mapping[str, Tensor] | Sequence[Tensor]) -> tuple[Tensor, ...]:
        texts = [pair[side] for side in PAIR_SIDES] if isinstance(pair, Mapping) else pair
        return (number, *(text if text.dtype == tf.string else tf.cast(text, "int64") for text in texts))

    return dataset.enumerate(start=1).map(flat)
