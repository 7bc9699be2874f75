"""Where pairs come from: TSV files, Python iterables, `tf.data` datasets; all become numbered pairs of one dataset."""

import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import Slot, register
from keras_attn.base.special_ids import special_ids_or_default
from keras_attn.text.tokenizer import Tokenizer

SIDES = ("source", "target")


@register
class Ids(Slot):
    """Stands for a tokenizer where texts are ids already.

    Ids are a text's pieces and the unknown id: start, end and padding ids are added later, and
    pairs that hold them, or an id over the vocabulary, are left out and counted.

    Args:
        vocabulary_size: Number of ids, the special ones counted.
        special_ids: The `SpecialIds`; 0 padding, 1 start, 2 end, 3 unknown by default.

    Raises:
        ValueError: If there is no room for an id beside the special ones, or ids would not fit 32 bits.

    Example:
    >>> from keras_attn import data
    >>> pairs = data.encode([([5, 6], [7]), ([5], [99])], data.Ids(10), data.Ids(10))
    2 pairs read, 1 kept, 1 left out:
             1  target ids outside 3 ... 9
    pair 2, target ids outside 3 ... 9: [5] -> [99]
    >>> pairs.source[0].tolist()
    [5, 6, 2]
    """

    max_length = None

    def __init__(self, vocabulary_size, special_ids=None):
        special_ids = special_ids_or_default(special_ids)
        highest = max(value for value in special_ids.get_config().values() if value is not None)
        must = f"be an integer above {highest}, at most 2**31"
        check_number("vocabulary_size", vocabulary_size, int, must=must, above=highest, at_most=2**31)
        self.vocabulary_size = vocabulary_size
        self.special_ids = special_ids

    def pieces(self, ids):
        """Returns ids `[n, None]` as they are."""
        return ids


class Tsv:
    r"""A file of one pair per line, its columns parted by tabs, in UTF-8.

    Lines that have more or fewer columns than they should, or are not UTF-8, are broken: they are
    left out and reported with their number. Nothing is quoted and nothing is stripped but the
    line's end.

    Args:
        path: Of the file.
        source_column, target_column: Which columns hold the texts, from 0.
        num_columns: How many columns each line has.

    Raises:
        ValueError: For columns that are not there, or twice the same.

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

    def __init__(self, path, source_column=0, target_column=1, num_columns=2):
        check_positive("num_columns", num_columns)
        for name, column in (("source_column", source_column), ("target_column", target_column)):
            check_number(name, column, int, must=f"be in 0 ... {num_columns - 1}", at_least=0, below=num_columns)
        if source_column == target_column:
            raise ValueError(f"`target_column` must be another than `source_column`. Received: {target_column} twice.")
        self.path = pathlib.Path(path)
        self.source_column = source_column
        self.target_column = target_column
        self.num_columns = num_columns

    def read(self, report):
        """Yields the number, source and target of each line; counts broken ones in the report."""
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


class Items:
    """The pairs of a Python iterable.

    Args:
        items: Pairs, or mappings with the keys "source" and "target".
        readers: The tokenizer or `Ids` of each side.
    """

    unit = "pair"

    def __init__(self, items, readers):
        self.items = items
        self.readers = readers

    def read(self, report):
        """Yields the number, source and target of each item; counts what is no pair in the report."""
        for number, item in enumerate(self.items, start=1):
            sides = [item.get(side) for side in SIDES] if isinstance(item, Mapping) else item
            if isinstance(sides, (list, tuple, np.ndarray)) and len(sides) == len(SIDES):
                sides = [as_side(side, reader) for side, reader in zip(sides, self.readers, strict=True)]
                if all(side is not None for side in sides):
                    yield (number, *sides)
                    continue
            report.drop("not a pair", number, repr(item))


def as_side(value, reader):
    """Returns a text as bytes or ids as an array, or None if the value is neither."""
    if isinstance(reader, Ids):
        if isinstance(value, (str, bytes)) or not isinstance(value, (Iterable, np.ndarray)):
            return None
        try:
            ids = np.asarray(value)
        except ValueError:  # lists of unequal lengths inside
            return None
        return ids.astype("int64") if ids.ndim == 1 and (ids.dtype.kind in "iu" or not ids.size) else None
    if tf.is_tensor(value) and value.dtype == tf.string and value.shape.rank == 0:
        value = value.numpy()
    try:
        return value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else None
    except UnicodeEncodeError:  # half a surrogate pair
        return None


def numbered_chunks(pairs, readers, report, size):
    """Returns a `tf.data.Dataset` of numbers, sources and targets, so many pairs in an element.

    Args:
        pairs: A `Tsv`, a `tf.data.Dataset` or an iterable of pairs.
        readers: The tokenizer or `Ids` of each side.
        report: The `Report` that counts what cannot be read.
        size: Number of pairs in an element, but for the last one.

    Raises:
        ValueError: If `pairs` is none of these.
    """
    if isinstance(pairs, tf.data.Dataset):
        return numbered_dataset(pairs, readers).ragged_batch(size)
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, (Iterable, Tsv)):
        raise ValueError(
            "`dataset` must be a `tf.data.Dataset`, a `Tsv` or an iterable of pairs. "
            f"Received: {pairs.__class__.__name__}."
        )
    pairs = pairs if isinstance(pairs, Tsv) else Items(pairs, readers)
    report.unit = pairs.unit
    numbers, *sides = list(zip(*pairs.read(report), strict=True)) or [(), (), ()]
    columns = tf.constant(numbers, "int64"), *map(as_column, sides, readers)
    starts = tf.data.Dataset.range(0, len(numbers), size)
    return starts.map(lambda start: tuple(column[start : start + size] for column in columns))


def as_column(values, reader):
    """Returns one side of all pairs: strings `[P]` or ragged ids `[P, None]`."""
    if isinstance(reader, Tokenizer):
        return tf.constant(values, "string", shape=(len(values),))
    flat = np.concatenate([np.zeros(0, "int64"), *values])
    return tf.RaggedTensor.from_row_lengths(flat, np.array([len(ids) for ids in values], "int64"))


def numbered_dataset(dataset, readers):
    """Returns the dataset's elements with their numbers, after checking what they are."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`dataset` must end: leave out `repeat()`. Received: an infinite dataset.")
    spec = dataset.element_spec
    sides = [spec.get(side) for side in SIDES] if isinstance(spec, dict) else spec
    if not isinstance(sides, (tuple, list)) or len(sides) != len(SIDES):
        sides = [None, None]
    for side, given, reader in zip(SIDES, sides, readers, strict=True):
        text = isinstance(reader, Tokenizer)
        # A row of a ragged tensor is a plain one, though its specification is not.
        known = isinstance(given, tf.TensorSpec) or (isinstance(given, tf.RaggedTensorSpec) and not given.ragged_rank)
        known = known and given.shape.rank == (0 if text else 1)
        if not known or not (given.dtype == tf.string if text else given.dtype.is_integer):
            wanted = "a string scalar" if text else "integers [None]"
            raise ValueError(
                'The elements of `dataset` must be pairs, or have the keys "source" and "target"; '
                f"the {side} must be {wanted}. Received: dataset.element_spec={spec}."
            )

    def flat(number, pair):
        pair = [pair[side] for side in SIDES] if isinstance(spec, dict) else pair
        return (number, *(side if side.dtype == tf.string else tf.cast(side, "int64") for side in pair))

    return dataset.enumerate(start=1).map(flat)
