"""Masks as functions of indices, their algebra, their configs, and the masks of one call."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_attn import EncoderBlock, MultiHeadSelfAttention, masks
from keras_attn.kernels.dispatch import whole_grid

QUERY, KEY = np.arange(7)[:, None], np.arange(7)[None, :]
sizes = st.integers(1, 4)
leaves = st.one_of(
    st.just(masks.Causal()),
    st.builds(masks.Window, sizes, st.one_of(st.none(), sizes)),
    st.builds(masks.Prefix, sizes),
    st.builds(masks.Blocks, sizes),
    st.builds(masks.Dilated, sizes),
    st.builds(masks.Global, st.lists(st.integers(0, 8), min_size=1, max_size=4)),
)
patterns = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(masks.And, inner, inner), st.builds(masks.Or, inner, inner), st.builds(masks.Not, inner)
    ),
    max_leaves=5,
)
BY_DOCUMENTATION = {
    masks.Causal: lambda mask, query, key: key <= query,
    masks.Window: lambda mask, query, key: (
        query - mask.left + 1 <= key <= query + (mask.left if mask.right is None else mask.right) - 1
    ),
    masks.Prefix: lambda mask, query, key: key < mask.length,
    masks.Blocks: lambda mask, query, key: query // mask.size == key // mask.size,
    masks.Dilated: lambda mask, query, key: abs(query - key) % mask.step == 0,
    masks.Global: lambda mask, query, key: query in mask.indices or key in mask.indices,
    masks.And: lambda mask, query, key: brute_force(mask.first, query, key) and brute_force(mask.second, query, key),
    masks.Or: lambda mask, query, key: brute_force(mask.first, query, key) or brute_force(mask.second, query, key),
    masks.Not: lambda mask, query, key: not brute_force(mask.mask, query, key),
}


def brute_force(mask, query, key):
    """Whether the query sees the key, by the documentation."""
    return BY_DOCUMENTATION[mask.__class__](mask, query, key)


@given(patterns)
def test_patterns_equal_their_documentation(mask):
    wanted = [[brute_force(mask, query, key) for key in range(7)] for query in range(7)]
    np.testing.assert_array_equal(mask(QUERY, KEY), wanted)


@given(patterns, st.lists(st.integers(0, 6), min_size=4, max_size=4))
def test_coverage_bounds_what_a_rectangle_shows(mask, corners):
    queries, keys = sorted(corners[:2]), sorted(corners[2:])
    visible = np.broadcast_to(mask(QUERY, KEY), (7, 7))[queries[0] : queries[1] + 1, keys[0] : keys[1] + 1]
    any_visible, all_visible = mask.coverage(masks.Rectangle(*queries, *keys))
    assert any_visible or not visible.any()
    assert visible.all() or not all_visible


@given(leaves, st.lists(st.integers(0, 6), min_size=4, max_size=4))
def test_coverage_by_simple_patterns_is_exact(mask, corners):
    if isinstance(mask, masks.Dilated):
        assert mask.coverage(masks.Rectangle(*corners)) == (True, False)
        return
    queries, keys = sorted(corners[:2]), sorted(corners[2:])
    visible = np.broadcast_to(mask(QUERY, KEY), (7, 7))[queries[0] : queries[1] + 1, keys[0] : keys[1] + 1]
    assert mask.coverage(masks.Rectangle(*queries, *keys)) == (visible.any(), visible.all())


def test_coverage_by_call_masks():
    rectangles = masks.Rectangle(0, 3, *(keras.ops.convert_to_tensor(places) for places in ([0, 2, 4], [1, 3, 5])))
    any_visible, all_visible = masks.KeyLength(np.array([3, 4])).coverage(rectangles)
    np.testing.assert_array_equal(any_visible, [True, True, False])
    np.testing.assert_array_equal(all_visible, [True, False, False])
    assert masks.Padding(np.ones((1, 2), bool)).coverage(rectangles) == (True, False)


def test_coverage_by_global_positions():
    low, high = (keras.ops.convert_to_tensor(places) for places in ([0, 2, 5, 7], [1, 4, 6, 9]))
    any_visible, all_visible = masks.Global([6, 2, 5]).coverage(masks.Rectangle(0, 1, low, high))
    np.testing.assert_array_equal(any_visible, [False, True, True, False])
    np.testing.assert_array_equal(all_visible, [False, False, True, False])


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


def test_a_window_with_global_positions_by_hand():
    mask = masks.Window(1) | masks.Global([2])
    np.testing.assert_array_equal(mask(QUERY[:4], KEY[:, :4]), [[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 1]])
    np.testing.assert_array_equal((masks.Causal() & mask)(3, np.arange(4)), [0, 0, 1, 1])


@pytest.mark.parametrize(
    "indices", [(0, 3), [0, 3], np.array([0, 3]), range(0, 4, 3)], ids=lambda indices: type(indices)
)
def test_global_positions_may_be_any_sequence(indices):
    assert masks.Global(indices) == masks.Global([0, 3])
    assert repr(masks.Global(indices)) == "Global(indices=(0, 3))"


@pytest.mark.parametrize("indices", [[], (), [-1], [0, -1], [1.0], [True], ["0"], "01", 3, None, np.array(3), {0}])
def test_bad_global_positions_are_refused(indices):
    message = "`indices` must be a sequence of at least one non-negative integer. Received: indices="
    with pytest.raises(ValueError, match=message):
        masks.Global(indices)


@keras.saving.register_keras_serializable("test_masks")
def is_even(query_index, key_index):
    return key_index % 2 == 0


def test_a_registered_function_is_saved_with_the_layer():
    layer = MultiHeadSelfAttention(2, mask=masks.Where(is_even) | masks.Causal())
    again = MultiHeadSelfAttention.from_config(json.loads(json.dumps(layer.get_config())))
    assert again.mask == layer.mask
    assert again.mask.first.function is is_even


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
    with pytest.raises(ValueError, match=f"`left` must be an integer of at least 1.*left={left!r}"):
        masks.Window(left)
    with pytest.raises(ValueError, match="`right` must be an integer"):
        masks.Window(2, left)


def test_bad_parts_and_keys_are_refused():
    with pytest.raises(ValueError, match="Only masks can be combined"):
        masks.Causal() & "causal"
    with pytest.raises(ValueError, match=r"`Window` may have the keys \['left', 'right'\]. Received: \['colour'\]"):
        masks.Window.from_config({"left": 2, "colour": "blue"})
    with pytest.raises(ValueError, match="`mask` must be boolean"):
        masks.Explicit(np.ones((2, 3), "float32"))


def test_a_user_written_pattern_fills_a_layers_slot():
    assert (masks.Where(lambda query, key: key % 2 == 0) & masks.Causal())(QUERY, KEY).sum() == 16
    with pytest.raises(ValueError, match="`function` must be a function of query and key index. Received: function=3"):
        masks.Where(3)

    class Even(masks.Pattern):
        def __call__(self, query_index, key_index):
            return key_index % 2 == 0

    visible = (Even() & masks.Causal())(QUERY, KEY)
    assert visible.sum() == 16


def test_call_masks_cannot_be_evaluated_at_indices():
    for mask in (masks.Causal() & masks.Padding(None, np.ones((1, 3), bool)), ~masks.KeyLength(np.array([3]))):
        with pytest.raises(TypeError, match="is not a function of indices: it holds the tensors of one call"):
            mask(2, 1)


@given(patterns)
def test_reach_and_ahead_bound_what_is_seen(mask):
    query, key = np.arange(40)[:, None], np.arange(40)[None, :]
    visible = np.broadcast_to(mask(query, key), (40, 40))
    back, ahead = (query - key)[visible] + 1, (key - query)[visible]
    if mask.reach is not None:
        assert np.all(back <= mask.reach)
    if mask.ahead is not None:
        assert np.all(ahead <= mask.ahead)


@pytest.mark.parametrize(
    ("mask", "reach", "ahead"),
    [
        (masks.Causal(), None, 0),
        (masks.Window(3), 3, 2),
        (masks.Window(3, 1), 3, 0),
        (masks.Window(2, 5), 2, 4),
        (masks.Prefix(4), None, 3),
        (masks.Blocks(5), 5, 4),
        (masks.Dilated(3), None, None),
        (masks.Global([3]), None, None),
        (masks.Causal() & (masks.Window(7) | masks.Global([0])), None, 0),
        (masks.Where(lambda query, key: key <= query), None, None),
        (~masks.Causal(), None, None),
        (~masks.Window(3), None, None),
        (masks.Causal() & masks.Dilated(3), None, 0),
        (masks.Causal() & masks.Window(7), 7, 0),
        (masks.Causal() | masks.Prefix(4), None, 3),
        (masks.Window(3, 1) | masks.Blocks(2), 3, 1),
        (masks.Causal() | masks.Dilated(3), None, None),
    ],
)
def test_reach_and_ahead(mask, reach, ahead):
    assert (mask.reach, mask.ahead) == (reach, ahead)


HIDING = [
    masks.Causal(),
    masks.Window(4, 1),
    masks.Blocks(1),
    masks.Causal() & masks.Dilated(3),
    masks.Causal() & (masks.Window(4) | masks.Global([0, 3])),
    masks.Where(lambda query, key: key <= query),
    masks.Where(lambda query, key: key <= query) & masks.Window(200),
    ~~masks.Causal(),
    masks.Where(lambda query, key: np.tril(np.ones((64, 64), bool))[query, key]),  # a table
]
SEEING = [
    None,
    masks.Causal() | ~masks.Window(100),
    masks.Causal() | ~masks.Window(100_000),
    masks.Causal() | (~masks.Window(5000) & masks.Window(5001)),
    masks.Causal() | masks.Prefix(70),
    masks.Causal() | masks.Blocks(1000),
    masks.Causal() | masks.Dilated(997),
    masks.Window(4, 1) | masks.Global([0]),
    masks.Causal() | masks.Global([300_007]),
    masks.Causal() | (masks.Window(5) & masks.Global([300_007])),
    masks.Causal() | masks.And(masks.Global([300_007]), masks.Where(lambda query, key: key == 300_007)),
    masks.Where(lambda query, key: (key <= query) | (key > query + 3_000_000)),
    masks.Where(lambda query, key: (key <= query) | (query > 900)),
]


@pytest.mark.parametrize("mask", HIDING)
def test_patterns_that_hide_the_future(mask):
    masks.check_hides_the_future(mask)


@pytest.mark.parametrize("mask", SEEING)
def test_patterns_that_look_ahead_anywhere_are_refused(mask):
    with pytest.raises(ValueError, match="`mask` must hide the future to decode step by step"):
        masks.check_hides_the_future(mask)


@pytest.mark.parametrize(
    "mask",
    [
        masks.Causal() & masks.Padding(np.ones((2, 3), bool)),
        ~(masks.Window(3) | masks.Segments(np.ones((2, 3), int), np.ones((2, 3), int))),
        masks.Causal() & ~masks.Explicit(np.ones((3, 3), bool)),
    ],
)
def test_call_masks_inside_a_pattern_are_refused_by_constructors(mask):
    for make in (lambda: MultiHeadSelfAttention(2, mask=mask), lambda: EncoderBlock(2, 3, mask=mask)):
        with pytest.raises(ValueError, match="`mask` must combine patterns only: .* holds the tensors of one call"):
            make()


def test_padding_needs_a_mask():
    with pytest.raises(ValueError, match="`Padding` needs a `query_mask` or a `key_mask`"):
        masks.Padding()
