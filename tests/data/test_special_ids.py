"""Batches of pairs with special ids of their own."""

import numpy as np
import pytest

from keras_attn import data, text
from keras_attn.base.special_ids import SpecialIds

pytestmark = pytest.mark.tensorflow

OWN = SpecialIds(padding=3, start=0, end=5, unknown=1)


@pytest.fixture(scope="module")
def pairs():
    reader = data.Ids(9, special_ids=OWN)
    given = [([4, 6], [7]), ([8], [1, 4, 2]), ([3], [4]), ([4], [9]), ([4], [5])]
    return data.encode(given, reader, reader, verbose=0)


def test_ids_that_frame_texts_are_left_out(pairs):
    assert [ids.tolist() for ids in pairs[0]] == [[4, 6, 5], [7, 5]]
    assert [ids.tolist() for ids in pairs[1]] == [[8, 5], [1, 4, 2, 5]]
    where = "ids outside 0 ... 8 without [0, 3, 5]"
    assert pairs.report.dropped == {f"source {where}": 1, f"target {where}": 2}
    assert pairs.report.num_unknown == 1 and pairs.special_ids == OWN


def test_rows_are_padded_and_started_by_their_own_ids(pairs):
    ((inputs, labels),) = data.Batches(pairs, data.Padded(2)).arrays(0)
    rows = sorted(zip(*(array.tolist() for array in (inputs["source"], inputs["target"], labels))))
    assert rows == [
        ([4, 6, 5], [0, 7, 3, 3], [7, 5, 3, 3]),
        ([8, 5, 3], [0, 1, 4, 2], [1, 4, 2, 5]),
    ]
    ((packed, labels),) = data.Batches(pairs, data.Packed(6, 7, batch_size=1)).arrays(0)
    assert packed["target"][0].tolist().count(0) == 2 and packed["target"][0, -1] == labels[0, -1] == 3
    assert packed["target_segment_ids"][0, -1] == 0


def test_statistics_count_their_own_padding(pairs, capsys):
    batches = data.Batches(pairs, data.Padded(2))
    assert data.stats(batches).target_padding == 2 / 8
    assert data.stats(list(batches.arrays(0)), special_ids=OWN).target_padding == 2 / 8


def test_teacher_forcing_by_hand():
    inputs, labels = data.teacher_forcing([[4, 5]], [[7, 0, 5, 3, 3]], OWN)
    assert inputs["target"].numpy().tolist() == [[0, 7, 0, 3, 3]]
    assert labels.numpy().tolist() == [[7, 0, 5, 3, 3]]


def test_misfits_are_named(pairs):
    with pytest.raises(ValueError, match="`source` and `target` must have the same special ids. Received: source.spec"):
        data.encode([([4], ["a"])], data.Ids(9, OWN), text.Characters("a"))
    with pytest.raises(ValueError, match="`vocabulary_size` must be an integer above 5"):
        data.Ids(5, OWN)
    reader = data.Ids(9, SpecialIds(padding=None))
    bare = data.encode([([4], [0])], reader, reader, verbose=0)
    np.testing.assert_array_equal(bare.target[0], [0, 2])
    with pytest.raises(ValueError, match="`pairs` must have a padding id, to fill rows"):
        data.Batches(bare, data.Padded(1))
