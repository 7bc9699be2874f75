"""Training batches, which depend only on the seed and the number of the epoch."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.tensors import short_repr
from keras_attn.data.layouts import BatchShape, Layout
from keras_attn.data.order import Order
from keras_attn.data.packing import Places
from keras_attn.data.pairs import Pairs
from keras_attn.data.rows import Place, lay_out

Batch: TypeAlias = tuple[dict[str, np.ndarray], np.ndarray]
"""The inputs of a model by name, and the labels."""


class Batches:
    """Batches `(inputs, labels)` of pairs, for teacher forcing.

    Inputs are `{"source": [B, S], "target": [B, T]}`, int32. The source ends with the end id; the
    target is the start id, then the labels without their last id. Packed inputs also contain segment
    ids and positions. Labels are `[B, T]`, with the end id last.

    An epoch contains every pair once. Its order depends only on the seed and the number of the epoch:
    pairs of equal lengths are exchanged, rows move between batches of the same shape, and batches are
    shuffled. Packing is done once, so every epoch has the same number of batches. The last batch of a
    shape is filled with rows of padding, so batches have no other shapes than those of the layout.

    Args:
        pairs: The `Pairs`.
        layout: `Padded(...)`, `Bucketed(...)` or `Packed(...)`.
        seed: An integer of at least 0.
        verbose: 1 prints the report if pairs do not fit the layout, 0 never does.

    Attributes:
        report: The `Report` of the pairs, including those that do not fit the layout.

    Raises:
        ValueError: For invalid arguments, or if no pair fits the layout.

    Example:
    >>> from keras_attn import data
    >>> pairs = data.encode([([5, 6], [7]), ([8], [5, 4])], data.Ids(9), data.Ids(9))
    >>> batches = data.Batches(pairs, data.Packed(source_length=6, target_length=5, batch_size=1), seed=0)
    >>> inputs, labels = next(batches.arrays(epoch=0))
    >>> for name, array in inputs.items():
    ...     print(f"{name:18} {array.tolist()}")
    source             [[8, 2, 5, 6, 2, 0]]
    source_segment_ids [[1, 1, 2, 2, 2, 0]]
    source_positions   [[0, 1, 0, 1, 2, 0]]
    target             [[1, 5, 4, 1, 7]]
    target_segment_ids [[1, 1, 1, 2, 2]]
    target_positions   [[0, 1, 2, 0, 1]]
    >>> labels.tolist()
    [[5, 4, 2, 7, 2]]
    """

    def __init__(self, pairs: Pairs, layout: Layout, seed: int = 0, verbose: int = 1) -> None:
        if not isinstance(pairs, Pairs):
            raise ValueError(f"`pairs` must be `Pairs`, see `encode`. Received: {pairs.__class__.__name__}.")
        if not isinstance(layout, Layout):
            raise ValueError(
                f"`layout` must be `Padded`, `Bucketed` or `Packed`. Received: layout={short_repr(layout)}."
            )
        if pairs.special_ids.padding is None:
            raise ValueError(
                f"`pairs` must have a padding id, to fill rows. Received: pairs.special_ids={pairs.special_ids}."
            )
        check_number("seed", seed, int, at_least=0)
        self.pairs = pairs
        self.layout = layout
        self.seed = seed
        self.num_shards, self.shard_index = 1, 0
        self.report = pairs.report.copy()
        fitting = self._fitting(pairs.lengths, verbose)
        self._used = np.random.default_rng(seed).permutation(fitting)  # shuffled: a sorted file would pack badly
        self._order = Order(pairs.lengths[self._used], layout)

    def _fitting(self, lengths: np.ndarray, verbose: int) -> np.ndarray:
        """Returns the indices of the pairs that fit the layout; reports the others."""
        fits = self.layout.fits(lengths)
        for index in np.flatnonzero(~fits):
            source, target = lengths[index]
            self.report.drop("no room in the layout", self.pairs.numbers[index], f"{source} -> {target} positions")
        kept = np.flatnonzero(fits)
        self.report.num_kept, self.report.num_cut = len(kept), int(self.pairs.cut[kept].sum())
        sides = self.pairs.source, self.pairs.target
        self.report.num_unknown = sum(int((side.take(kept) == self.pairs.special_ids.unknown).sum()) for side in sides)
        if not self.report.num_kept:
            raise ValueError(f"`layout` must have room for at least one pair. Received: {self.layout}, {self.report}")
        if verbose and not fits.all():
            print(self.report)
        return kept

    def __len__(self) -> int:
        """Number of batches of every epoch."""
        return self._order.num_batches

    @property
    def shapes(self) -> tuple[BatchShape, ...]:
        """The `BatchShape`s of the batches. A model is traced and compiled once for each, if its lengths are fixed."""
        return self._order.plan.shapes

    def epoch(self, number: int) -> tf.data.Dataset:
        """Returns the batches of one epoch, counted from 0."""
        check_number("number", number, int, at_least=0)
        return self.as_dataset(lambda: self.arrays(number)).apply(tf.data.experimental.assert_cardinality(len(self)))

    def epochs(self, first: int = 0) -> tf.data.Dataset:
        """Returns the batches of all epochs from `first` on, an infinite dataset.

        Keras then needs `steps_per_epoch=len(batches)`.
        """
        check_number("first", first, int, at_least=0)
        return self.as_dataset(lambda: itertools.chain.from_iterable(map(self.arrays, itertools.count(first))))

    def shard(self, num_shards: int, index: int) -> Batches:
        """Returns the shard of one worker: every n-th row of each batch, so that shapes and steps are equal.

        A `tf.distribute` strategy does not shard these batches again, but it would split each among all
        replicas: pass datasets with `strategy.distribute_datasets_from_function`, as `examples/devices.py`
        does.

        Args:
            num_shards: Number of workers n, which must divide the rows of every batch.
            index: Index of the worker, from 0.

        Raises:
            ValueError: If the batches cannot be divided into these shards.
        """
        check_positive("num_shards", num_shards)
        check_number("index", index, int, at_least=0)
        if index >= num_shards:
            raise ValueError(f"`index` must be in 0 ... {num_shards - 1}. Received: index={short_repr(index)}.")
        sizes = [shape.num_rows for shape in self.shapes]
        if self.num_shards > 1 or any(size % num_shards for size in sizes):
            raise ValueError(
                "`num_shards` must divide the rows of every batch, and batches can be sharded only once. "
                f"Received: num_shards={num_shards}, batches of {sizes} rows in {self.num_shards} shards."
            )
        shard = copy.copy(self)
        shard.num_shards, shard.shard_index = num_shards, index
        return shard

    def arrays(self, epoch: int) -> Iterator[Batch]:
        """Yields the batches of one epoch as NumPy arrays."""
        for shape, members, places in self._order.batches(np.random.default_rng([self.seed, epoch])):
            yield self._batch(shape, self._used[members], places)

    def _batch(self, shape: BatchShape, members: np.ndarray, places: Places) -> Batch:
        """Returns the inputs and labels of this worker, for pairs `[n]` at their places."""
        longest = self.pairs.lengths[members].max(axis=0)
        mine = places.row % self.num_shards == self.shard_index
        members, (row, source_start, target_start, segment) = members[mine], (each[mine] for each in places)
        row, num_rows = row // self.num_shards, shape.num_rows // self.num_shards
        size, special_ids = (num_rows, shape.source_length or int(longest[0])), self.pairs.special_ids
        source = lay_out(self.pairs.source, members, Place(row, source_start, segment), size, special_ids)
        size = num_rows, shape.target_length or int(longest[1])
        target = lay_out(self.pairs.target, members, Place(row, target_start, segment), size, special_ids)
        inputs: dict[str, np.ndarray] = {}
        for name, side, ids in (("source", source, source.ids), ("target", target, target.read_before)):
            inputs[name] = ids
            if self.layout.packed:
                inputs |= {f"{name}_segment_ids": side.segment_ids, f"{name}_positions": side.positions}
        return inputs, target.ids

    def as_dataset(self, arrays: Callable[[], Iterator[Batch]]) -> tf.data.Dataset:
        """Returns the batches that a function yields as a `tf.data.Dataset`."""
        sizes = {(shape.num_rows // self.num_shards, shape.source_length, shape.target_length) for shape in self.shapes}
        rows, source, target = (common_size(axis) for axis in zip(*sizes, strict=True))
        parts = ("", "_segment_ids", "_positions") if self.layout.packed else ("",)
        labels = tf.TensorSpec((rows, target), "int32")
        inputs = {f"source{part}": tf.TensorSpec((rows, source), "int32") for part in parts}
        inputs |= {f"target{part}": labels for part in parts}
        options = tf.data.Options()
        policies = tf.data.experimental.AutoShardPolicy
        options.experimental_distribute.auto_shard_policy = policies.OFF if self.num_shards > 1 else policies.DATA
        dataset = tf.data.Dataset.from_generator(arrays, output_signature=(inputs, labels))
        return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def common_size(sizes: Sequence[int | None]) -> int | None:
    """Returns the size of an axis if it is the same in all batches, or None."""
    return sizes[0] if len(set(sizes)) == 1 else None
