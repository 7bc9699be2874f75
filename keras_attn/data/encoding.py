"""Encodes texts as ids, in parallel and once; pairs that cannot be used for training are dropped and counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_attn.base.special_ids import check_same_special_ids
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Tensor
from keras_attn.data.limits import DropLonger, Limit
from keras_attn.data.pairs import Pairs, Ragged, ranges
from keras_attn.data.readers import PAIR_SIDES, Ids, PairSource, Reader, Readers, numbered_chunks
from keras_attn.data.report import Report
from keras_attn.text.lookup import WHITESPACE
from keras_attn.text.tokenizer import Tokenizer

CHUNK_SIZE = 2048  # number of pairs that are tokenized at once


def encode(
    dataset: PairSource,
    source: Reader,
    target: Reader,
    limit: Limit = DropLonger(),  # noqa: B008 - slots never change
    verbose: int = 1,
) -> Pairs:
    """Returns the pairs of a data set as ids in memory, with a report of the dropped ones.

    Args:
        dataset: A `tf.data.Dataset` of pairs or of `{"source": ..., "target": ...}`, a `Tsv` file,
            or an iterable of such Python pairs. Texts are strings; ids are integers `[None]`.
        source, target: The reader of each side: a tokenizer of `keras_attn.text`, or `Ids`.
        limit: `DropLonger(...)` or `CutLonger(...)`, for pairs that are longer than its lengths or than a
            tokenizer's `max_length`.
        verbose: 1 prints the report if pairs were dropped or truncated or ids are unknown, 0 never does.

    Returns:
        `Pairs`, in the order of the data set.

    Pairs are dropped if they are broken or not UTF-8, if a side is empty or only whitespace, if they
    contain ids outside the vocabulary, or if they are too long. `pairs.report` counts them, and shows the
    first of each kind. A text that a tokenizer's `max_length` would truncate in serving is too long.

    Raises:
        ValueError: If `dataset` is none of these, or has no pair to train on.

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
    for side, reader in zip(PAIR_SIDES, readers):
        if not isinstance(reader, (Tokenizer, Ids)):
            raise ValueError(f"`{side}` must be a tokenizer or `Ids`. Received: {side}={short_repr(reader)}.")
    if not isinstance(limit, Limit):
        raise ValueError(f"`limit` must be `DropLonger(...)` or `CutLonger(...)`. Received: limit={short_repr(limit)}.")
    check_same_special_ids(source=source.special_ids, target=target.special_ids)
    report = Report()
    chunks = numbered_chunks(dataset, readers, report, CHUNK_SIZE)
    chunks = chunks.map(lambda *chunk: tokenize(chunk, readers), num_parallel_calls=tf.data.AUTOTUNE)
    kept = [
        PairChunk(numbers, sides, readers, limit, report).kept()
        for numbers, *sides in chunks.prefetch(2).as_numpy_iterator()
    ]
    report.num_read = report.num_dropped + report.num_kept
    if not report.num_kept:
        raise ValueError(f"`dataset` must hold at least one pair that can be trained on. Received: {report}")
    if verbose and (report.dropped or report.num_cut or report.num_unknown):
        print(report)
    joined = KeptPairs(*(np.concatenate(parts) for parts in zip(*kept, strict=True)))
    sources = Ragged(joined.source_ids, joined.source_lengths)
    targets = Ragged(joined.target_ids, joined.target_lengths)
    return Pairs(joined.numbers, sources, targets, joined.cut, report, source.special_ids)


class TokenizedSide(NamedTuple):
    """One side of `n` tokenized pairs.

    Attributes:
        values: Ids of all texts, concatenated.
        counts: Number of ids of each text, `[n]`.
        texts: The strings `[n]`, or no strings where texts are ids.
        broken: Which strings are not UTF-8, boolean `[n]`.
        blank: Which strings are empty or only whitespace, boolean `[n]`.
    """

    values: Tensor
    counts: Tensor
    texts: Tensor
    broken: Tensor
    blank: Tensor


class KeptPairs(NamedTuple):
    """Pairs that are kept; the fields are those of `Pairs` and of its `Ragged` sides."""

    numbers: np.ndarray
    cut: np.ndarray
    source_ids: np.ndarray
    source_lengths: np.ndarray
    target_ids: np.ndarray
    target_lengths: np.ndarray


def tokenize(chunk: Sequence[Tensor], readers: Readers) -> tuple[Tensor, TokenizedSide, TokenizedSide]:
    """Returns the numbers `[n]` and both sides of a chunk, as tensors."""
    number, source, target = chunk
    return number, tokenized_side(source, readers[0]), tokenized_side(target, readers[1])


def tokenized_side(side: Tensor, reader: Reader) -> TokenizedSide:
    """Returns the tokenized texts of one side: strings `[n]` or ids `[n, None]`."""
    if isinstance(reader, Tokenizer):
        ids = reader.pieces(side)
        broken = tf.strings.unicode_transcode(side, "UTF-8", "UTF-8", errors="replace") != side
        texts, blank = side, tf.strings.regex_full_match(side, f"(?:{WHITESPACE})*")
    else:
        ids = reader.pieces(as_ragged(side))
        texts, broken = tf.zeros([0], "string"), tf.zeros([ids.nrows()], "bool")
        blank = broken
    return TokenizedSide(ids.flat_values, ids.row_lengths(), texts, broken, blank)


def as_ragged(ids: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
    """Returns ids `[n, None]` as a ragged tensor; ids of one static length come as a dense tensor."""
    return ids if isinstance(ids, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(ids)


class PairChunk:
    """A chunk of tokenized pairs, from which the pairs to train on are kept.

    Args:
        numbers: Numbers of the pairs `[n]`.
        sides: The `TokenizedSide` of the source and of the target, arrays.
        readers: The tokenizer or `Ids` of each side.
        limit: The `Limit`.
        report: The `Report` that counts dropped pairs.
    """

    def __init__(
        self, numbers: np.ndarray, sides: Sequence[TokenizedSide], readers: Readers, limit: Limit, report: Report
    ) -> None:
        self.numbers = numbers
        self.sides = dict(zip(PAIR_SIDES, sides, strict=True))
        self.readers = dict(zip(PAIR_SIDES, readers, strict=True))
        self.limit = limit
        self.report = report
        self.special_ids = readers[0].special_ids
        framing = (self.special_ids.padding, self.special_ids.start, self.special_ids.end)
        self.framing = sorted({value for value in framing if value is not None})  # ids that no text may contain

    def kept(self) -> KeptPairs:
        """Returns the pairs to train on, with end ids; drops and counts the others."""
        good = np.ones(len(self.numbers), bool)
        lengths = {}
        for side, (values, counts, _, broken, blank) in self.sides.items():
            good = self._drop(good, broken, f"{side} not UTF-8")
            good = self._drop(good, blank | (counts == 0), f"empty {side}")
            size = self.readers[side].vocabulary_size
            owner = np.repeat(np.arange(len(counts)), counts)
            inside = (values >= 0) & (values < size) & ~np.isin(values, self.framing)
            strange = np.bincount(owner[~inside], minlength=len(counts)) > 0
            good = self._drop(good, strange, f"{side} ids outside {allowed(size, self.framing)}")
            bound = min(self.limit.bound(side), self.readers[side].max_length or np.inf)
            lengths[side] = self.limit.cut(counts + 1, bound)
            good = self._drop(good, lengths[side] > bound, f"{side} of more than {bound} positions")
        cut = np.logical_or(*(lengths[name] <= side.counts for name, side in self.sides.items()))[good]
        self.report.num_kept += int(good.sum())
        self.report.num_cut += int(cut.sum())
        source_ids, target_ids = (self._with_ends(side, good, lengths[side][good]) for side in PAIR_SIDES)
        source_lengths, target_lengths = (lengths[side][good] for side in PAIR_SIDES)
        return KeptPairs(self.numbers[good], cut, source_ids, source_lengths, target_ids, target_lengths)

    def _drop(self, good: np.ndarray, bad: np.ndarray, reason: str) -> np.ndarray:
        """Drops and counts pairs that are good so far but bad; returns the pairs that are still good, `[n]`."""
        for i in np.flatnonzero(good & bad):
            self.report.drop(reason, self.numbers[i], self._text(int(i)))
        return good & ~bad

    def _text(self, i: int) -> str:
        """Returns the text of a pair for the report."""
        shown = []
        for values, counts, texts, *_ in self.sides.values():
            start = int(counts[:i].sum())
            ids = [int(value) for value in values[start : start + min(counts[i], 10)]]
            shown.append(repr(texts[i].decode(errors="replace")) if len(texts) else str(ids))
        return " -> ".join(shown)

    def _with_ends(self, side: str, good: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns the int32 ids of the good texts of one side, truncated, with end ids and concatenated."""
        values, counts, *_ = self.sides[side]
        starts = (np.cumsum(counts) - counts)[good]
        ids = np.full(int(lengths.sum()), self.special_ids.end, "int32")
        ends = np.cumsum(lengths)
        ids[ranges(ends - lengths, lengths - 1)] = values[ranges(starts, lengths - 1)]
        self.report.num_unknown += int((ids == self.special_ids.unknown).sum())
        return ids


def allowed(size: int, framing: list[int]) -> str:
    """Returns a description of the ids that a text may contain: all of a vocabulary except for the sorted `framing`."""
    if framing == list(range(len(framing))):
        return f"{len(framing)} ... {size - 1}"
    return f"0 ... {size - 1} without {framing}"
