"""Rows that hold several pairs: the same logits, loss and gradients as a row per pair, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import models

S, T, V_SOURCE, V_TARGET = 11, 13, 17, 19
LENGTHS = [(3, 5), (7, 2), (1, 4), (5, 5), (4, 7), (2, 3)]
ROWS = [[0, 1, 2], [3, 4], [5]]  # which pairs stand in which packed row
WIRINGS = {"post-norm": ka.PostNorm(), "pre-norm": ka.PreNorm()}
POSITIONS = {"Sinusoidal": None, "Learned": ka.Learned(8), "Rotary": ka.Rotary(), "RelativeBias": ka.RelativeBias()}


def make(residual=WIRINGS["pre-norm"], position=None, dropout=0.0):
    return models.Transformer(V_SOURCE, V_TARGET, 2, 12, 2, 17, dropout, residual, position)


@pytest.fixture
def pairs(rng):
    """Sources, targets as read and labels of each pair."""
    return [
        (rng.integers(4, V_SOURCE, s), np.append(1, rng.integers(4, V_TARGET, t - 1)), rng.integers(4, V_TARGET, t))
        for s, t in LENGTHS
    ]


def packed(pairs, rows=ROWS):
    """Returns inputs and labels with so many pairs in each row."""
    sides = {"source": S, "target": T}
    names = [f"{side}{part}" for side in sides for part in ("", "_segment_ids", "_positions")]
    inputs = {name: np.zeros((len(rows), sides[name.split("_")[0]]), "int32") for name in names}
    labels = np.zeros((len(rows), T), "int32")
    for row, members in enumerate(rows):
        begin = {"source": 0, "target": 0}
        for segment, pair in enumerate(members, start=1):
            for side, ids in zip(sides, pairs[pair]):
                part = row, slice(begin[side], begin[side] + len(ids))
                inputs[side][part] = ids
                inputs[f"{side}_segment_ids"][part] = segment
                inputs[f"{side}_positions"][part] = np.arange(len(ids))
            labels[part] = pairs[pair][2]
            begin = {side: begin[side] + len(ids) for side, ids in zip(sides, pairs[pair])}
    return inputs, labels


def unpacked(pairs):
    """Returns inputs and labels with one pair in each row, as wide as the longest, and no word of segments."""
    inputs, labels = packed(pairs, [[pair] for pair in range(len(pairs))])
    return {side: inputs[side][:, :7] for side in ("source", "target")}, labels[:, :7]


def logits_of_pairs(model, pairs, rows=ROWS):
    """Returns the packed rows' logits, pair by pair in the order of `pairs`."""
    inputs, _ = packed(pairs, rows)
    logits, segments = np.array(model(inputs)), inputs["target_segment_ids"]
    places = {pair: (row, n) for row, members in enumerate(rows) for n, pair in enumerate(members, start=1)}
    return [logits[row][segments[row] == segment] for row, segment in (places[pair] for pair in sorted(places))]


def step(make_model, weights, batch):
    """Returns the loss of a batch, and each weight's gradient: how far it went in a step of rate 1."""
    model = make_model()
    model.set_weights(weights)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0, reduction="sum")
    model.compile(keras.optimizers.SGD(1.0), loss, run_eagerly=True)
    loss = model.train_on_batch(*batch)
    return loss, [before - after for before, after in zip(weights, model.get_weights())]


@pytest.mark.trains
@pytest.mark.parametrize("residual", WIRINGS.values(), ids=WIRINGS)
@pytest.mark.parametrize("position", POSITIONS.values(), ids=POSITIONS)
def test_loss_and_every_gradient_are_those_of_unpacked_rows(residual, position, pairs):
    def make_model():
        return make(residual, position)

    weights = [0.3 * weight for weight in make_model().get_weights()]  # keeps gradients and their rounding small
    expected_loss, expected = step(make_model, weights, unpacked(pairs))
    loss, gradients = step(make_model, weights, packed(pairs))
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))
        assert gradient.any() or not wanted.any()


@pytest.mark.parametrize("position", POSITIONS.values(), ids=POSITIONS)
def test_nothing_leaks_between_the_pairs_of_a_row(position, pairs):
    model = make(position=position)
    before = logits_of_pairs(model, pairs)
    source, target, labels = pairs[1]
    pairs[1] = np.where(source == 5, 6, 5), np.where(target == 7, 8, 7), labels
    after = logits_of_pairs(model, pairs)
    for pair in range(len(pairs)):
        if pair == 1:
            assert np.abs(after[pair] - before[pair]).max() > 1e-3
        else:
            np.testing.assert_array_equal(after[pair], before[pair])


def test_logits_are_those_of_each_pair_alone_wherever_it_stands(pairs):
    model = make()
    inputs, labels = unpacked(pairs)
    alone = [row[mask] for row, mask in zip(np.array(model(inputs)), labels != 0)]
    for rows in (ROWS, [[2, 1, 0], [5, 4], [3]]):
        for logits, wanted in zip(logits_of_pairs(model, pairs, rows), alone, strict=True):
            np.testing.assert_allclose(logits, wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.trains
def test_fit_on_packed_rows_learns_drops_and_saves_the_same_model(pairs, tmp_path):
    model = make(dropout=0.1)
    inputs, labels = packed(pairs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(0.01), loss)
    first, second = (np.array(ops.convert_to_numpy(model(inputs, training=True))) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    history = model.fit(inputs, labels, batch_size=3, epochs=25, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert set(loaded.input) == {"source", "target"}
    for batch in (inputs, unpacked(pairs)[0]):
        np.testing.assert_array_equal(*(ops.convert_to_numpy(each(batch)) for each in (loaded, model)))


def test_packed_rows_inside_a_larger_model(pairs):
    model, (inputs, _) = make(), packed(pairs)
    symbolic = {name: keras.Input((None,), dtype="int32", name=name) for name in inputs}
    outer = keras.Model(symbolic, model(symbolic))
    np.testing.assert_allclose(outer(inputs), model(inputs), atol=1e-6)


def test_bad_packed_inputs_are_named(pairs):
    model, (inputs, _) = make(), packed(pairs)
    part = {name: ids for name, ids in inputs.items() if name != "target_positions"}
    with pytest.raises(ValueError, match=r"Packed inputs must have all of \('source_segment_ids', .* Received: \['sou"):
        model(part)
    with pytest.raises(ValueError, match=r"`source_segment_ids` must have shape \[B, S\] with S=11 as in `source`"):
        model({**inputs, "source_segment_ids": inputs["source_segment_ids"][:, :-1]})
    with pytest.raises(ValueError, match="`source` must hold ids from 0 to 16"):
        model({**inputs, "source": inputs["source"] + 40})


def test_the_recurrent_recipe_refuses_packed_rows(pairs):
    model = models.RNNSeq2Seq(V_SOURCE, V_TARGET, size=5)
    with pytest.raises(ValueError, match="`RNNSeq2SeqModel` reads one pair per row: .* Received packed inputs"):
        model(packed(pairs)[0])
