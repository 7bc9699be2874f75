"""Batches: teacher forcing, order by seed and epoch, shards, few traces, the same loss however they are laid out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import data, models, text

from .lengths import pairs_of

pytestmark = pytest.mark.tensorflow

LAYOUTS = {
    "padded": data.Padded(6),
    "bucketed": data.Bucketed((5, 9, 13), tokens=52, multiple_of=2),
    "packed": data.Packed(17, 19, batch_size=4, window=11),
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
VOCABULARY = 61


@pytest.fixture
def pairs(rng):
    given = [(rng.integers(3, VOCABULARY, s), rng.integers(3, VOCABULARY, t)) for s, t in rng.integers(1, 13, (53, 2))]
    return data.encode(given, data.Ids(VOCABULARY), data.Ids(VOCABULARY))


def texts(batches):
    """Returns the pairs of ids of some batches, end ids left out, sorted."""
    found = []
    for inputs, labels in batches:
        for source, target in zip(inputs["source"], labels, strict=True):
            found += zip(*(split(row[row != 0]) for row in (source, target)), strict=True)
    return sorted(found)


def split(ids):
    """Returns the texts of a row."""
    return [tuple(text[text != 2]) for text in np.split(ids, np.flatnonzero(ids == 2) + 1)[:-1]]


def all_texts(pairs):
    return sorted(tuple(tuple(ids[:-1]) for ids in pairs[index]) for index in range(len(pairs)))


def assert_equal_batches(first, second, count=None):
    first, second = (list(batches)[:count] for batches in (first, second))
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        for array, wanted in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_teacher_forcing_by_hand():
    pairs = data.encode([([5, 6], [7, 8, 9]), ([4], [5])], data.Ids(10), data.Ids(10))
    (inputs, labels), *rest = data.Batches(pairs, data.Padded(3), seed=1).arrays(0)
    assert not rest
    order = np.argsort(-inputs["source"][:, 0])
    assert inputs["source"][order].tolist() == [[5, 6, 2], [4, 2, 0], [0, 0, 0]]
    assert inputs["target"][order].tolist() == [[1, 7, 8, 9], [1, 5, 0, 0], [0, 0, 0, 0]]
    assert labels[order].tolist() == [[7, 8, 9, 2], [5, 2, 0, 0], [0, 0, 0, 0]]
    assert {array.dtype.name for array in (*inputs.values(), labels)} == {"int32"}


@each_layout
def test_every_epoch_holds_every_pair_once_in_as_many_batches(layout, pairs):
    batches = data.Batches(pairs, layout, seed=3)
    for epoch in range(3):
        found = list(batches.arrays(epoch))
        assert len(found) == len(batches)
        assert texts(found) == all_texts(pairs)


@each_layout
def test_the_order_is_a_function_of_seed_and_epoch(layout, pairs):
    batches = data.Batches(pairs, layout, seed=3)
    assert_equal_batches(batches.arrays(2), data.Batches(pairs, layout, seed=3).arrays(2))
    for other in (batches.arrays(1), data.Batches(pairs, layout, seed=4).arrays(2)):
        with pytest.raises(AssertionError):
            assert_equal_batches(batches.arrays(2), other)


@each_layout
def test_a_training_can_start_at_any_epoch(layout, pairs):
    batches = data.Batches(pairs, layout, seed=3)
    steps = len(batches)
    assert batches.epoch(2).cardinality() == steps
    endless = list(batches.epochs().take(4 * steps).as_numpy_iterator())
    assert_equal_batches(batches.epoch(2).as_numpy_iterator(), endless[2 * steps : 3 * steps])
    assert_equal_batches(batches.epochs(first=2).take(2 * steps).as_numpy_iterator(), endless[2 * steps :])


def test_packed_rows_hold_other_pairs_in_every_epoch():
    batches = data.Batches(pairs_of([(4, 5)] * 40), data.Packed(8, 10, batch_size=4))

    def neighbours(epoch):
        rows = np.concatenate([inputs["source"] for inputs, _ in batches.arrays(epoch)])
        return {frozenset((row[0], row[4])) for row in rows}

    assert len(neighbours(0)) == 20
    assert len(neighbours(0) & neighbours(1)) < 5


@each_layout
def test_shards_part_each_batch(layout, pairs):
    batches = data.Batches(pairs, layout, seed=3)
    shards = [batches.shard(2, index) for index in range(2)]
    whole, *parts = (list(each.epoch(1).as_numpy_iterator()) for each in (batches, *shards))
    assert len(whole) == len(parts[0]) == len(parts[1]) == len(shards[0])
    assert sorted(texts(parts[0]) + texts(parts[1])) == all_texts(pairs)
    for (inputs, labels), (one, _), (other, _) in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(inputs["source"][::2], one["source"])
        np.testing.assert_array_equal(inputs["source"][1::2], other["source"])
        assert one["target"].shape == (len(labels) // 2, labels.shape[1])


@each_layout
def test_traces_are_bounded_by_the_buckets(layout, pairs):
    traces = []

    @tf.function
    def step(inputs, labels):
        traces.append(labels.shape)
        return tf.reduce_sum(inputs["source"]) + tf.reduce_sum(labels)

    batches = data.Batches(pairs, layout)
    for epoch in range(2):
        for inputs, labels in batches.epoch(epoch):
            step(inputs, labels)
    if layout.packed:
        assert len(traces) == 1
    elif isinstance(layout, data.Bucketed):
        assert len(traces) == len(layout.boundaries)
    shapes = {tuple(shape) for shape in traces}
    spec = batches.epoch(0).element_spec[1]
    assert all(spec.is_compatible_with(tf.zeros(shape, "int32")) for shape in shapes)
    assert spec.shape.is_fully_defined() == layout.packed


def test_fit_traces_once(pairs):
    traces = []

    class Counting(keras.losses.Loss):
        def call(self, y_true, y_pred):
            traces.append(y_true.shape)
            return keras.ops.mean(y_pred)

    model = models.Transformer(VOCABULARY, VOCABULARY, 1, 8, 2, 8)
    model.compile("sgd", Counting())
    batches = data.Batches(pairs, LAYOUTS["bucketed"])
    model.fit(batches.epochs(), epochs=2, steps_per_epoch=len(batches), shuffle=False, verbose=0)
    assert len(traces) <= len(batches.shapes)


def test_an_epochs_loss_is_the_same_however_pairs_are_laid_out(pairs):
    model = models.Transformer(VOCABULARY, VOCABULARY, 1, 12, 2, 17)
    total = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0, reduction="sum")
    losses = {}
    for name, layout in LAYOUTS.items():
        batches = data.Batches(pairs, layout, seed=1)
        losses[name] = sum(float(total(labels, model(inputs))) for inputs, labels in batches.arrays(0))
    np.testing.assert_allclose(list(losses.values()), losses["padded"], rtol=1e-5)


def test_what_does_not_fit_is_reported_with_the_number_it_was_read_with(tmp_path, capsys):
    path = tmp_path / "pairs.tsv"
    path.write_text("a\ta\nbroken\naaa\ta\na\taa\n", encoding="utf-8")
    letters = text.Characters("a")
    batches = data.Batches(data.encode(data.Tsv(path), letters, letters, verbose=0), data.Packed(3, 3, 2))
    assert capsys.readouterr().out.endswith("line 3, no room in the layout: 4 -> 2 positions\n")
    assert batches.pairs.numbers.tolist() == [1, 3, 4]


def test_what_does_not_fit_is_left_out(pairs, capsys):
    batches = data.Batches(pairs, data.Packed(9, 8, 4))
    fits = (pairs.lengths <= (9, 8)).all(axis=1)
    assert batches.report.dropped == {"no room in the layout": int((~fits).sum())}
    assert (batches.report.num_kept, pairs.report.num_kept) == (fits.sum(), 53)
    assert f"{(~fits).sum()}  no room in the layout" in capsys.readouterr().out
    assert len(texts(batches.arrays(0))) == fits.sum()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda pairs: data.Batches([], data.Padded(2)), "`pairs` must be `Pairs`, see `encode`. Received: list"),
        (
            lambda pairs: data.Batches(pairs, 32),
            "`layout` must be `Padded`, `Bucketed` or `Packed`. Received: layout=32",
        ),
        (
            lambda pairs: data.Batches(pairs, data.Padded(2), seed=-1),
            "`seed` must be an integer of at least 0. .*seed=-1",
        ),
        (lambda pairs: data.Batches(pairs, data.Padded(2)).epoch(-1), "`number` must be an integer of at least 0"),
        (lambda pairs: data.Batches(pairs, data.Padded(2)).epochs(0.5), "`first` must be an integer of at least 0"),
        (lambda pairs: data.Batches(pairs, data.Packed(1, 1, 2)), "`layout` must have room for at least one pair"),
        (lambda pairs: data.Batches(pairs, data.Padded(6)).shard(4, 0), r"`num_shards` must divide .* of \[6\] rows"),
        (
            lambda pairs: data.Batches(pairs, data.Padded(6)).shard(2, 0.5),
            "`index` must be an integer of at least 0. Received: index=0.5",
        ),
        (
            lambda pairs: data.Batches(pairs, data.Padded(6)).shard(2, 2),
            r"`index` must be in 0 ... 1. Received: index=2",
        ),
        (lambda pairs: data.Batches(pairs, data.Padded(4)).shard(2, 0).shard(2, 0), "batches can be sharded only once"),
    ],
)
def test_bad_arguments_are_named(make, message, pairs):
    with pytest.raises(ValueError, match=message):
        make(pairs)


def test_tensorflow_does_not_share_a_share_again(pairs):
    policies = tf.data.experimental.AutoShardPolicy
    batches = data.Batches(pairs, LAYOUTS["packed"])
    for each, policy in ((batches, policies.DATA), (batches.shard(2, 1), policies.OFF)):
        for dataset in (each.epoch(0), each.epochs()):
            assert dataset.options().experimental_distribute.auto_shard_policy == policy
