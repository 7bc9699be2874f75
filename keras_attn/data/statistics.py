"""Statistics of the lengths of texts and of the padding in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.types import Tensor
from keras_attn.data.batches import Batches
from keras_attn.data.pairs import Pairs


class Lengths(NamedTuple):
    """Statistics of the lengths of one side, including end ids."""

    minimum: int
    median: float
    mean: float
    percentile_99: float
    maximum: int


class Stats(NamedTuple):
    """The result of `stats`.

    Attributes:
        num_pairs, num_batches: Numbers of pairs and of batches; `num_batches` is None for `Pairs`.
        source, target: The `Lengths` of each side.
        source_padding, target_padding: Fractions of the positions that are padding, None for `Pairs`.
        padding: The fraction for both sides together.
        num_shapes: Number of different shapes, None for `Pairs`.
    """

    num_pairs: int
    source: Lengths
    target: Lengths
    num_batches: int | None = None
    num_shapes: int | None = None
    source_padding: float | None = None
    target_padding: float | None = None
    padding: float | None = None

    def __str__(self) -> str:
        heads = "".join(f"{name:>9}" for name in ("least", "median", "mean", "99%", "most"))
        lines = [f"{self.num_pairs:,} pairs{heads}"]
        width = len(lines[0]) - len(heads)
        for name, lengths, padding in (
            ("source", self.source, self.source_padding),
            ("target", self.target, self.target_padding),
        ):
            figures = f"{name:<{width}}" + "".join(f"{figure:9.4g}" for figure in lengths)
            lines.append(figures if padding is None else f"{figures}   {padding:.1%} padding")
        if self.num_batches is not None:
            lines.append(f"{self.num_batches:,} batches of {self.num_shapes} shapes, {self.padding:.1%} padding")
        return "\n".join(lines)


def stats(
    batches: Pairs | Batches | Iterable[tuple[Mapping[str, Tensor], Tensor]], special_ids: SpecialIds | None = None
) -> Stats:
    """Prints and returns the lengths of texts, and the fraction of padding in batches.

    Args:
        batches: `Pairs`; `Batches`, of which the first epoch is read; or any finite iterable of
            `(inputs, labels)` in the same form, for instance a `tf.data.Dataset`.
        special_ids: The `SpecialIds` of an iterable; padding is 0 by default.

    Returns:
        `Stats`.

    Raises:
        ValueError: If there are no pairs, or `batches` are none of these.

    Example:
    >>> from keras_attn import data
    >>> pairs = data.encode([([5, 6], [7]), ([8], [5, 4])], data.Ids(9), data.Ids(9))
    >>> figures = data.stats(data.Batches(pairs, data.Packed(8, 8, batch_size=1)))
    2 pairs    least   median     mean      99%     most
    source         2      2.5      2.5     2.99        3   37.5% padding
    target         2      2.5      2.5     2.99        3   37.5% padding
    1 batches of 1 shapes, 37.5% padding
    >>> figures.padding
    0.375
    """
    if not isinstance(batches, (Pairs, Batches, Iterable)):
        raise ValueError(f"`batches` must be `Pairs`, `Batches` or batches. Received: {batches.__class__.__name__}.")
    found = (
        stats_of_pairs(batches)
        if isinstance(batches, Pairs)
        else stats_of_batches(batches, special_ids_or_default(special_ids))
    )
    print(found)
    return found


def stats_of_pairs(pairs: Pairs) -> Stats:
    """Returns the `Stats` of `Pairs`."""
    return Stats(len(pairs), summary(pairs.source.lengths), summary(pairs.target.lengths))


def stats_of_batches(
    batches: Batches | Iterable[tuple[Mapping[str, Tensor], Tensor]], special_ids: SpecialIds
) -> Stats:
    """Returns the `Stats` of batches."""
    special_ids = batches.pairs.special_ids if isinstance(batches, Batches) else special_ids
    lengths: dict[str, list[np.ndarray]] = {"source": [], "target": []}
    positions, shapes, num_batches = {"source": 0, "target": 0}, set(), 0
    for inputs, _ in batches.arrays(0) if isinstance(batches, Batches) else batches:
        num_batches += 1
        shapes.add(tuple(tuple(inputs[side].shape) for side in lengths))
        for side, found in lengths.items():
            ids = np.asarray(inputs[side])
            positions[side] += ids.size
            segments = inputs.get(f"{side}_segment_ids")
            found.append(text_lengths(ids, None if segments is None else np.asarray(segments), special_ids))
    joined = {side: np.concatenate([np.zeros(0, "int64"), *found]) for side, found in lengths.items()}
    if not len(joined["source"]):
        raise ValueError("`batches` must hold at least one pair. Received: none.")
    empty = {side: 1 - float(joined[side].sum()) / positions[side] for side in joined}
    together = 1 - float(sum(each.sum() for each in joined.values())) / sum(positions.values())
    return Stats(
        len(joined["source"]),
        summary(joined["source"]),
        summary(joined["target"]),
        num_batches,
        len(shapes),
        empty["source"],
        empty["target"],
        together,
    )


def text_lengths(ids: np.ndarray, segments: np.ndarray | None, special_ids: SpecialIds) -> np.ndarray:
    """Returns the lengths of the texts of one batch, `[n]`, without rows of only padding."""
    if segments is None:
        lengths = (ids != special_ids.filler).sum(axis=1)
    else:
        most = segments.max(initial=0) + 1
        lengths = np.bincount((np.arange(len(ids))[:, None] * most + segments)[segments > 0])
    return lengths[lengths > 0]


def summary(lengths: np.ndarray) -> Lengths:
    """Returns the `Lengths` of texts."""
    median, percentile_99 = np.quantile(lengths, (0.5, 0.99))
    return Lengths(int(lengths.min()), float(median), float(lengths.mean()), float(percentile_99), int(lengths.max()))
