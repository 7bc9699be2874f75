"""Masks as functions of indices, their algebra, their configs, and the masks of one call."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_attn import masks
from keras_attn.kernels.dispatch import whole_grid

QUERY, KEY = np.arange(7)[:, None], np.arange(7)[None, :]
patterns = st.recursive(
    st.one_of(
        st.just(masks.Causal()),
        st.builds(masks.Window, st.integers(1, 4), st.one_of(st.none(), st.integers(1, 4))),
    ),
    lambda inner: st.one_of(st.builds(masks.And, inner, inner), st.builds(masks.Or, inner, inner)),
    max_leaves=5,
)


def brute_force(mask, query, key):
    """What the documentation says, in plain words."""
    if isinstance(mask, masks.Causal):
        return key <= query
    if isinstance(mask, masks.Window):
        right = mask.left if mask.right is None else mask.right
        return query - mask.left + 1 <= key <= query + right - 1
    parts = brute_force(mask.first, query, key), brute_force(mask.second, query, key)
    return all(parts) if isinstance(mask, masks.And) else any(parts)


@given(patterns)
def test_patterns_are_what_they_say(mask):
    wanted = [[brute_force(mask, query, key) for key in range(7)] for query in range(7)]
    np.testing.assert_array_equal(mask(QUERY, KEY), wanted)


@given(patterns)
def test_config_round_trip(mask):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(mask)))
    again = keras.saving.deserialize_keras_object(config)
    assert again == mask
    assert hash(again) == hash(mask)
    np.testing.assert_array_equal(again(QUERY, KEY), mask(QUERY, KEY))


def test_operators_and_equality():
    joined = masks.Causal() & masks.Window(3)
    assert joined == masks.And(masks.Causal(), masks.Window(3))
    assert masks.Causal() | masks.Window(3) == masks.Or(masks.Causal(), masks.Window(3))
    assert masks.Window(3) != masks.Window(4)
    assert masks.Causal() != masks.Window(3)
    assert repr(joined) == "And(first=Causal(), second=Window(left=3, right=None))"


def test_causal_window_is_the_last_n():
    visible = (masks.Causal() & masks.Window(3))(QUERY, KEY)
    assert [int(row.sum()) for row in visible] == [1, 2, 3, 3, 3, 3, 3]


def test_masks_of_a_call():
    query, key = np.zeros((2, 1, 2, 4)), np.zeros((2, 1, 3, 4))
    grid = whole_grid(query, key)
    query_mask, key_mask = np.array([[1, 1], [1, 0]], bool), np.array([[1, 1, 0], [0, 1, 1]], bool)
    padding = np.array(masks.Padding(query_mask, key_mask).visible(grid))
    np.testing.assert_array_equal(padding[:, 0], query_mask[:, :, None] & key_mask[:, None, :])
    segments = np.array(masks.Segments(np.array([[1, 0], [2, 1]]), np.array([[1, 2, 0], [1, 2, 2]])).visible(grid))
    np.testing.assert_array_equal(segments[:, 0], [[[1, 0, 0], [0, 0, 0]], [[0, 1, 1], [1, 0, 0]]])
    lengths = np.array(masks.KeyLength(np.array([1, 3])).visible(grid))
    np.testing.assert_array_equal(lengths[:, 0, 0], [[1, 0, 0], [1, 1, 1]])
    joined = masks.combine(None, masks.Causal(), masks.padding(None, key_mask))
    np.testing.assert_array_equal(
        np.array(joined.visible(grid))[:, 0], key_mask[:, None] & np.array([[1, 1, 0], [1, 1, 1]], bool)
    )
    assert masks.combine(None, None) is None
    assert masks.padding(None, None) is None
    assert masks.segments(None, None) is None
    assert masks.explicit(None) is None


def test_hide_stops_nan_and_drops_the_keras_mask():
    tensor = keras.ops.convert_to_tensor(np.array([[[1.0], [np.nan]]], "float32"))
    hidden = masks.hide(tensor, np.array([[True, False]]))
    np.testing.assert_array_equal(hidden, [[[1.0], [0.0]]])
    assert masks.hide(tensor, None) is tensor


@pytest.mark.parametrize("left", [0, -1, 1.5, "3"])
def test_windows_that_see_nothing_are_refused(left):
    with pytest.raises(ValueError, match=f"`left` of a Window must be an integer of at least 1.*left={left!r}"):
        masks.Window(left)
    with pytest.raises(ValueError, match="`right` of a Window"):
        masks.Window(2, left)


def test_bad_parts_and_keys_are_refused():
    with pytest.raises(ValueError, match="Only masks can be joined"):
        masks.Causal() & "causal"
    with pytest.raises(ValueError, match=r"`Window` may have the keys \['left', 'right'\]. Received: \['colour'\]"):
        masks.Window.from_config({"left": 2, "colour": "blue"})
    with pytest.raises(ValueError, match="for queries and memory alike. Received: none for the memory"):
        masks.segments(np.ones((2, 3)), None)
    with pytest.raises(ValueError, match="`mask` must be boolean"):
        masks.Explicit(np.ones((2, 3), "float32"))


def test_a_user_written_pattern_fills_a_layers_slot():
    class Even(masks.Pattern):
        def __call__(self, query_index, key_index):
            return key_index % 2 == 0

    visible = (Even() & masks.Causal())(QUERY, KEY)
    assert visible.sum() == 16
