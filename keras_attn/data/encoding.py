"""Texts to ids, in parallel and once: what cannot be trained on is counted and left out."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_attn.base.special_ids import check_same_special_ids
from keras_attn.base.tensors import short_repr
from keras_attn.data.limits import DropLonger, Limit
from keras_attn.data.pairs import Pairs, Ragged, ranges
from keras_attn.data.readers import SIDES, Ids, numbered_chunks
from keras_attn.data.report import Report
from keras_attn.text.lookup import WHITESPACE
from keras_attn.text.tokenizer import Tokenizer

CHUNK = 2048  # pairs that are tokenised at a time


def encode(dataset, source, target, limit=DropLonger(), verbose=1):  # noqa: B008 - slots never change
    """Returns the pairs of a data set as ids in memory, and a report of those left out.

    Args:
        dataset: A `tf.data.Dataset` of pairs or of `{"source": ..., "target": ...}`, a `Tsv` file,
            or an iterable of such Python pairs. Texts are strings; ids are integers `[None]`.
        source, target: What reads each side: a tokenizer of `keras_attn.text`, or `Ids`.
        limit: What becomes of pairs with more positions than it says, or than a tokenizer's
            `max_length`: `DropLonger(...)` or `CutLonger(...)`.
        verbose: 1 prints the report where anything was left out, cut or unknown, 0 never does.

    Returns:
        `Pairs`, in the order of the data set.

    Pairs that are broken, not UTF-8, have a side without anything but whitespace, hold ids outside
    the vocabulary or are too long are counted in `pairs.report`, the first of each kind with their
    number and text. What a tokenizer's `max_length` would cut in serving is too long here too.

    Raises:
        ValueError: If `dataset` is none of these, or has no pair that can be trained on.

    Example:
    >>> from keras_attn import data, text
    >>> letters, words = text.Characters("abc"), text.Words(["one", "two"])
    >>> pairs = data.encode([("abc", "one two"), ("ab", "two"), ("c", "")], letters, words)
    3 pairs read, 2 kept, 1 left out:
             1  empty target
    pair 3, empty target: 'c' -> ''
    >>> [ids.tolist() for ids in pairs[0]]
    [[4, 5, 6, 2], [4, 5, 2]]
    """
    readers = source, target
    for side, reader in zip(SIDES, readers):
        if not isinstance(reader, (Tokenizer, Ids)):
            raise ValueError(f"`{side}` must be a tokenizer or `Ids`. Received: {side}={short_repr(reader)}.")
    if not isinstance(limit, Limit):
        raise ValueError(f"`limit` must be `DropLonger(...)` or `CutLonger(...)`. Received: limit={short_repr(limit)}.")
    check_same_special_ids(source=source.special_ids, target=target.special_ids)
    report = Report()
    chunks = numbered_chunks(dataset, readers, report, CHUNK)
    chunks = chunks.map(lambda *chunk: tokenize(chunk, readers), num_parallel_calls=tf.data.AUTOTUNE)
    kept = [Chunk(*arrays, readers, limit, report).kept() for arrays in chunks.prefetch(2).as_numpy_iterator()]
    report.num_read = report.num_dropped + report.num_kept
    if not report.num_kept:
        raise ValueError(f"`dataset` must hold at least one pair that can be trained on. Received: {report}")
    if verbose and (report.dropped or report.num_cut or report.num_unknown):
        print(report)
    numbers, cut, *arrays = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return Pairs(numbers, Ragged(*arrays[:2]), Ragged(*arrays[2:]), cut, report, source.special_ids)


class Side(NamedTuple):
    """One side of `n` pairs, as it comes from its tokenizer.

    Attributes:
        values: Flat ids.
        counts: How many of them each text has, `[n]`.
        texts: The strings `[n]`, or none where texts are ids.
        broken: Which strings are not UTF-8, boolean `[n]`.
        blank: Which strings are whitespace alone, boolean `[n]`.
    """

    values: Any
    counts: Any
    texts: Any
    broken: Any
    blank: Any


def tokenize(chunk, readers):
    """Returns the numbers `[n]`, and each `Side` as tensors."""
    number, *sides = chunk
    encoded = []
    for side, reader in zip(sides, readers, strict=True):
        if isinstance(reader, Tokenizer):
            ids = reader.pieces(side)
            broken = tf.strings.unicode_transcode(side, "UTF-8", "UTF-8", errors="replace") != side
            texts, blank = side, tf.strings.regex_full_match(side, f"(?:{WHITESPACE})*")
        else:
            ids = reader.pieces(as_ragged(side))
            texts, broken = tf.zeros([0], "string"), tf.zeros([ids.nrows()], "bool")
            blank = broken
        encoded.append(Side(ids.flat_values, ids.row_lengths(), texts, broken, blank))
    return number, *encoded


def as_ragged(ids):
    """Returns ids `[n, None]` as a ragged tensor: those of one static length come as a dense one."""
    return ids if isinstance(ids, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(ids)


class Chunk:
    """Some pairs on their way into memory.

    Args:
        number: Numbers of the pairs `[n]`.
        source, target: The `Side`s, arrays.
        readers: The tokenizer or `Ids` of each side.
        limit: The `Limit`.
        report: The `Report` that counts what is left out.
    """

    def __init__(self, number, source, target, readers, limit, report):
        self.number = number
        self.sides = dict(zip(SIDES, (source, target), strict=True))
        self.readers = dict(zip(SIDES, readers, strict=True))
        self.limit = limit
        self.report = report
        self.special_ids = readers[0].special_ids
        framing = (self.special_ids.padding, self.special_ids.start, self.special_ids.end)
        self.framing = sorted({value for value in framing if value is not None})  # what no text has inside

    def kept(self):
        """Returns, of the pairs that are kept, the numbers, which were cut, and each side's ids and lengths.

        Ids are flat, end ids added.
        """
        good = np.ones(len(self.number), bool)
        lengths = {}
        for side, (values, counts, _, broken, blank) in self.sides.items():
            good = self._leave_out(good, broken, f"{side} not UTF-8")
            good = self._leave_out(good, blank | (counts == 0), f"empty {side}")
            size = self.readers[side].vocabulary_size
            owner = np.repeat(np.arange(len(counts)), counts)
            inside = (values >= 0) & (values < size) & ~np.isin(values, self.framing)
            strange = np.bincount(owner[~inside], minlength=len(counts)) > 0
            good = self._leave_out(good, strange, f"{side} ids outside {allowed(size, self.framing)}")
            bound = min(self.limit.bound(side), self.readers[side].max_length or np.inf)
            lengths[side] = self.limit.cut(counts + 1, bound)
            good = self._leave_out(good, lengths[side] > bound, f"{side} of more than {bound} positions")
        cut = np.logical_or(*(lengths[name] <= side.counts for name, side in self.sides.items()))[good]
        self.report.num_kept += int(good.sum())
        self.report.num_cut += int(cut.sum())
        arrays = (self._with_ends(side, good, lengths[side][good]) for side in SIDES)
        return self.number[good], cut, *itertools.chain.from_iterable(arrays)

    def _leave_out(self, good, bad, reason):
        """Counts the pairs that were good so far and are bad, and returns which remain good."""
        for i in np.flatnonzero(good & bad):
            self.report.drop(reason, self.number[i], self._text(i))
        return good & ~bad

    def _text(self, i):
        """Returns a pair as a text to show."""
        shown = []
        for values, counts, texts, *_ in self.sides.values():
            start = int(counts[:i].sum())
            ids = [int(value) for value in values[start : start + min(counts[i], 10)]]
            shown.append(repr(texts[i].decode(errors="replace")) if len(texts) else str(ids))
        return " -> ".join(shown)

    def _with_ends(self, side, good, lengths):
        """Returns the flat int32 ids of one side with end ids, and their lengths `[n]`."""
        values, counts, *_ = self.sides[side]
        starts = (np.cumsum(counts) - counts)[good]
        ids = np.full(int(lengths.sum()), self.special_ids.end, "int32")
        ends = np.cumsum(lengths)
        ids[ranges(ends - lengths, lengths - 1)] = values[ranges(starts, lengths - 1)]
        self.report.num_unknown += int((ids == self.special_ids.unknown).sum())
        return ids, lengths


def allowed(size, framing):
    """Returns as a text which ids a text may have: those of a vocabulary but the `framing` ones, in rising order."""
    if framing == list(range(len(framing))):
        return f"{len(framing)} ... {size - 1}"
    return f"0 ... {size - 1} without {framing}"
