"""First fit on two sides: each pair once, whole and alone, and rows that are full."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn import data
from keras_attn.data.packing import first_fit

from .lengths import LENGTHS, pairs_of, random_pairs

pytestmark = pytest.mark.tensorflow


@st.composite
def packings(draw):
    room = draw(st.integers(1, 23)), draw(st.integers(1, 19))
    sides = st.tuples(st.integers(1, room[0]), st.integers(1, room[1]))
    return draw(st.lists(sides, min_size=1, max_size=60)), room, draw(st.integers(1, 70))


@settings(deadline=None, max_examples=200)
@given(packings())
def test_each_pair_stands_once_with_room_on_both_sides(packing):
    lengths, room, window = packing
    places = first_fit(lengths, room, window)
    used = np.zeros((2, places.row.max() + 1, max(room)), int)
    for (source, target), row, *starts, segment in zip(lengths, *places, strict=True):
        assert 1 <= segment <= (places.row == row).sum()
        for side, (start, length) in enumerate(zip(starts, (source, target), strict=True)):
            assert 0 <= start <= start + length <= room[side]
            used[side, row, start : start + length] += 1
    assert used.max() == 1  # nothing overlaps
    assert set(places.row) == set(range(places.row.max() + 1))
    for row in set(places.row):
        assert sorted(places.segment[places.row == row]) == list(range(1, (places.row == row).sum() + 1))


@settings(deadline=None, max_examples=50)
@given(packings())
def test_packed_batches_hold_every_pair_whole(packing):
    lengths, room, window = packing
    lengths = np.array(lengths) + 1
    batches = data.Batches(pairs_of(lengths), data.Packed(room[0] + 1, room[1] + 1, 3, window), seed=5)
    found = []
    for inputs, labels in batches.arrays(0):
        assert inputs["source"].shape == (3, room[0] + 1)
        for row in range(3):
            segments = inputs["source_segment_ids"][row], inputs["target_segment_ids"][row]
            assert set(segments[0]) - {0} == set(segments[1]) - {0} == set(range(1, max(segments[0]) + 1))
            for segment in range(1, max(segments[0]) + 1):
                here = [each == segment for each in segments]
                source, target, read = (
                    inputs["source"][row][here[0]],
                    labels[row][here[1]],
                    inputs["target"][row][here[1]],
                )
                assert read.tolist() == [1, *target[:-1]]
                for side, ids, mask in zip(("source", "target"), (source, target), here, strict=True):
                    assert inputs[f"{side}_positions"][row][mask].tolist() == list(range(len(ids)))
                    assert np.flatnonzero(mask).tolist() == list(range(mask.argmax(), mask.argmax() + len(ids)))
                found.append((source.tolist()[:-1], target.tolist()[:-1]))
                assert (source[-1], target[-1]) == (2, 2)
        for side, ids in (("source", inputs["source"]), ("target", labels), ("target", inputs["target"])):
            padding = inputs[f"{side}_segment_ids"] == 0
            assert not ids[padding].any()
            assert not inputs[f"{side}_positions"][padding].any()
    assert sorted(found) == sorted((source.tolist(), target.tolist()) for source, target in random_pairs(lengths))


@pytest.mark.parametrize("make", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("positions", [128, 256])
def test_rows_are_full(make, positions):
    pairs = pairs_of(make(20_000))
    batches = data.Batches(pairs, data.Packed.balanced(pairs, positions, batch_size=8), seed=1)
    figures = data.stats(batches)
    assert figures.padding <= 0.05
    assert max(figures.source_padding, figures.target_padding) <= 0.06
    assert figures.num_shapes == 1


def test_a_packing_by_hand():
    places = first_fit([[2, 2], [5, 1], [3, 3], [1, 4]], (6, 6), window=4)
    assert places.row.tolist() == [1, 0, 1, 0]
    assert places.source_start.tolist() == [3, 0, 0, 5]
    assert places.target_start.tolist() == [3, 0, 0, 1]
    assert places.segment.tolist() == [2, 1, 1, 2]


def test_windows_have_rows_of_their_own():
    assert first_fit([[1, 1]] * 6, (4, 4), window=3).row.tolist() == [0, 0, 0, 1, 1, 1]
