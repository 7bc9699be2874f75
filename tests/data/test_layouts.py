"""Layouts: shapes, what fits, boundaries that leave the least padding, arguments."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn import data

from .lengths import pairs_of

pytestmark = pytest.mark.tensorflow

LAYOUTS = [data.Padded(3), data.Bucketed((4, 7), 21, 3), data.Packed(9, 8, 5, window=7)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_layouts_are_slots(layout):
    assert layout.__class__.from_config(layout.get_config()) == layout


def test_buckets_hold_pairs_by_their_longer_side():
    pairs = pairs_of([(2, 4), (5, 2), (4, 4), (7, 7), (3, 8)])
    batches = data.Batches(pairs, data.Bucketed((4, 7), tokens=14), verbose=0)
    assert [(shape.num_rows, shape.source_length, shape.target_length) for shape in batches.shapes] == [
        (3, 4, 4),
        (2, 7, 7),
    ]
    found = sorted((labels.shape, (labels != 0).any(axis=1).sum()) for _, labels in batches.arrays(0))
    assert found == [((2, 7), 2), ((3, 4), 2)]
    assert batches.report.dropped == {"no room in the layout": 1}


@pytest.mark.parametrize(
    ("tokens", "multiple_of", "rows"), [(100, 1, [25, 14]), (100, 8, [24, 8]), (3, 1, [1, 1]), (3, 4, [4, 4])]
)
def test_rows_by_tokens(tokens, multiple_of, rows):
    assert [shape.num_rows for shape in data.Bucketed((4, 7), tokens, multiple_of).shapes] == rows


def padding_of(lengths, boundaries):
    longer = np.array(lengths).max(axis=1)
    return sum(int(np.array(boundaries)[np.searchsorted(boundaries, each)]) for each in longer)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9)), min_size=1, max_size=20), st.integers(1, 4))
def test_boundaries_leave_the_least_padding(lengths, num_buckets):
    found = data.boundaries(pairs_of(lengths), num_buckets)
    distinct = sorted({max(pair) for pair in lengths})
    assert len(found) <= num_buckets
    assert found[-1] == distinct[-1]
    subsets = itertools.combinations(distinct[:-1], min(num_buckets, len(distinct)) - 1)
    assert padding_of(lengths, found) == min(padding_of(lengths, (*subset, distinct[-1])) for subset in subsets)


def test_a_balanced_packing_has_room_for_the_longest_and_the_datas_proportions():
    pairs = pairs_of([(6, 3)] * 10)
    assert data.Packed.balanced(pairs, 90, 2) == data.Packed(60, 30, 2)
    assert data.Packed.balanced(pairs, 5, 2) == data.Packed(6, 3, 2)
    pairs = pairs_of([(2, 2)] * 30 + [(2, 17)])
    assert data.Packed.balanced(pairs, 24, 2) == data.Packed(11, 17, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.Padded(0), "`batch_size` must be an integer of at least 1. Received: batch_size=0"),
        (lambda: data.Bucketed((), 9), r"`boundaries` must be increasing lengths. Received: boundaries=\(\)"),
        (lambda: data.Bucketed((4, 4), 9), r"`boundaries` must be increasing lengths. Received: boundaries=\(4, 4\)"),
        (lambda: data.Bucketed((4, 7.5), 9), "`boundaries` must be an integer of at least 1. Received: boundaries=7.5"),
        (lambda: data.Bucketed((4, 7), 0), "`tokens` must be an integer of at least 1"),
        (lambda: data.Bucketed((4, 7), 9, 0), "`multiple_of` must be an integer of at least 1"),
        (lambda: data.Packed(0, 5, 2), "`source_length` must be an integer of at least 1"),
        (lambda: data.Packed(5, None, 2), "`target_length` must be an integer of at least 1. .*=None"),
        (lambda: data.Packed(5, 5, True), "`batch_size` must be an integer of at least 1"),
        (lambda: data.Packed(5, 5, 2, 0), "`window` must be an integer of at least 1"),
        (lambda: data.boundaries(pairs_of([(2, 2)]), 0), "`num_buckets` must be an integer of at least 1"),
        (lambda: data.Packed.balanced(pairs_of([(2, 2)]), 0, 1), "`positions` must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_many_different_lengths_are_rounded_before_the_search():
    pairs = pairs_of(np.stack([np.arange(1, 5001)] * 2, axis=1))
    found = data.boundaries(pairs, 4)
    assert len(found) == 4 and found[-1] == pairs.lengths.max()
    wanted = np.array([1250, 2500, 3750, 5000])  # what is best for equally frequent lengths
    np.testing.assert_allclose(found, wanted, atol=2 * 5000 / 512)


def test_boundaries_and_stats_want_pairs():
    with pytest.raises(ValueError, match="`pairs` must be `Pairs`, see `encode`. Received: list"):
        data.boundaries([1, 2], 2)
    with pytest.raises(ValueError, match="`batches` must be `Pairs`, `Batches` or batches. Received: int"):
        data.stats(5)
