"""Training batches: the same seed and epoch give the same batches, wherever a training starts."""

import copy
import itertools

import numpy as np
import tensorflow as tf

from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.tensors import short_repr
from keras_attn.data.layouts import Layout
from keras_attn.data.order import Order
from keras_attn.data.pairs import Pairs
from keras_attn.data.rows import Place, lay_out


class Batches:
    """Batches `(inputs, labels)` of pairs, for teacher forcing.

    Inputs are `{"source": [B, S], "target": [B, T]}`, int32: the source ends in the end id, the
    target is the start id and the labels but the last; packed inputs hold segment ids and
    positions too. Labels are `[B, T]`, the end id last.

    An epoch holds every pair once, and its order is a function of the seed and its number alone:
    pairs of equal lengths change places, rows change batches within their shape, and batches are
    shuffled. Packing is done once, so that every epoch has the same number of batches. Rows
    that are missing in the last batch of a shape are padding, so that there are as many
    shapes as the layout says.

    Args:
        pairs: The `Pairs`.
        layout: `Padded(...)`, `Bucketed(...)` or `Packed(...)`.
        seed: Integer of at least 0.
        verbose: 1 prints the report if pairs do not fit the layout, 0 never does.

    Attributes:
        report: The `Report` of the pairs, with those that do not fit the layout.

    Raises:
        ValueError: For other arguments than these, or if no pair fits the layout.

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

    def __init__(self, pairs, layout, seed=0, verbose=1):
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
        self._used = np.random.default_rng(seed).permutation(fitting)  # a file in order would pack badly
        self._order = Order(pairs.lengths[self._used], layout)

    def _fitting(self, lengths, verbose):
        """Returns the pairs that fit the layout; reports the others."""
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

    def __len__(self):
        """Number of batches of every epoch."""
        return self._order.num_batches

    @property
    def shapes(self):
        """The `Shape`s of the batches: so many traces and compilations there are, unless lengths are open."""
        return self._order.plan.shapes

    def epoch(self, number):
        """Returns the batches of one epoch, counted from 0, a `tf.data.Dataset`."""
        check_number("number", number, int, at_least=0)
        return self.as_dataset(lambda: self.arrays(number)).apply(tf.data.experimental.assert_cardinality(len(self)))

    def epochs(self, first=0):
        """Returns the batches of all epochs from one on, a `tf.data.Dataset` without end.

        Keras needs `steps_per_epoch=len(batches)` with it.
        """
        check_number("first", first, int, at_least=0)
        return self.as_dataset(lambda: itertools.chain.from_iterable(map(self.arrays, itertools.count(first))))

    def shard(self, num_shards, index):
        """Returns one worker's share: every n-th row of each batch, so that shapes and steps stay in line.

        A `tf.distribute` strategy does not share a share again, but it would split its batches once
        more among all replicas: hand its datasets over by `strategy.distribute_datasets_from_function`,
        as `examples/devices.py` does.

        Args:
            num_shards: Number of workers n, a divisor of every batch's rows.
            index: Which of them, from 0.

        Raises:
            ValueError: If the batches cannot be shared so.
        """
        check_positive("num_shards", num_shards)
        check_number("index", index, int, at_least=0)
        if index >= num_shards:
            raise ValueError(f"`index` must be in 0 ... {num_shards - 1}. Received: index={short_repr(index)}.")
        sizes = [shape.num_rows for shape in self.shapes]
        if self.num_shards > 1 or any(size % num_shards for size in sizes):
            raise ValueError(
                "`num_shards` must divide the rows of every batch, and batches are shared once. "
                f"Received: num_shards={num_shards}, batches of {sizes} rows, shared by {self.num_shards}."
            )
        shard = copy.copy(self)
        shard.num_shards, shard.shard_index = num_shards, index
        return shard

    def arrays(self, epoch):
        """Yields the batches of one epoch as NumPy arrays."""
        for shape, members, places in self._order.batches(np.random.default_rng([self.seed, epoch])):
            yield self._batch(shape, self._used[members], places)

    def _batch(self, shape, members, places):
        """Returns the inputs and labels of pairs `[n]` at their places, those of this worker."""
        longest = self.pairs.lengths[members].max(axis=0)
        mine = places.row % self.num_shards == self.shard_index
        members, (row, source_start, target_start, segment) = members[mine], (each[mine] for each in places)
        row, num_rows = row // self.num_shards, shape.num_rows // self.num_shards
        size, special_ids = (num_rows, shape.source_length or int(longest[0])), self.pairs.special_ids
        source = lay_out(self.pairs.source, members, Place(row, source_start, segment), size, special_ids)
        size = num_rows, shape.target_length or int(longest[1])
        target = lay_out(self.pairs.target, members, Place(row, target_start, segment), size, special_ids)
        inputs = {}
        for name, side, ids in (("source", source, source.ids), ("target", target, target.read_before)):
            inputs[name] = ids
            if self.layout.packed:
                inputs |= {f"{name}_segment_ids": side.segment_ids, f"{name}_positions": side.positions}
        return inputs, target.ids

    def as_dataset(self, arrays):
        """Returns what a function yields, batches like those of `arrays`, as a `tf.data.Dataset`."""
        sizes = {(shape.num_rows // self.num_shards, shape.source_length, shape.target_length) for shape in self.shapes}
        rows, source, target = (only(axis) for axis in zip(*sizes, strict=True))
        parts = ("", "_segment_ids", "_positions") if self.layout.packed else ("",)
        labels = tf.TensorSpec((rows, target), "int32")
        inputs = {f"source{part}": tf.TensorSpec((rows, source), "int32") for part in parts}
        inputs |= {f"target{part}": labels for part in parts}
        options = tf.data.Options()
        policies = tf.data.experimental.AutoShardPolicy
        options.experimental_distribute.auto_shard_policy = policies.OFF if self.num_shards > 1 else policies.DATA
        dataset = tf.data.Dataset.from_generator(arrays, output_signature=(inputs, labels))
        return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def only(sizes):
    """Returns the size of an axis if all batches have the same, or None."""
    return sizes[0] if len(set(sizes)) == 1 else None
