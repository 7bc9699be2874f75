"""Edit distances of batches against the textbook's table, one pair at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_attn.base.special_ids import SpecialIds
from keras_attn.training.edit_distance import cut_at_end, edit_distances

B, T, L = 23, 5, 3


def oracle(first, second):
    """Wagner and Fischer's table, cell by cell."""
    table = {(i, 0): i for i in range(len(first) + 1)} | {(0, j): j for j in range(len(second) + 1)}
    for i, token in enumerate(first, start=1):
        for j, other in enumerate(second, start=1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (token != other))
    return table[len(first), len(second)]


def padded(texts, length):
    return np.array([[*text, *[0] * (length - len(text))] for text in texts], "int32").reshape(len(texts), length)


def texts(length):
    return st.lists(st.lists(st.integers(3, 5), max_size=length), min_size=B, max_size=B)


def distances(first, second):
    return edit_distances(ops.convert_to_tensor(first), ops.convert_to_tensor(second))


@settings(max_examples=10, deadline=None)
@given(texts(T), texts(L))
def test_any_texts(first, second):
    wanted = [oracle(a, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_array_equal(distances(padded(first, T), padded(second, L)), wanted)
    np.testing.assert_array_equal(distances(padded(second, L), padded(first, T)), wanted)


def test_every_mode(run, rng):
    first, second = (
        rng.integers(3, 6, (B, length)) * (np.arange(length) < rng.integers(0, length + 1, (B, 1))) for length in (T, L)
    )
    wanted = [oracle(a[a > 0], b[b > 0]) for a, b in zip(first, second, strict=True)]
    np.testing.assert_array_equal(run(edit_distances, first.astype("int32"), second.astype("int32")), wanted)


def test_a_word_of_the_textbook():
    first, second = ([[ord(letter) for letter in word]] for word in ("kitten", "sitting"))
    np.testing.assert_array_equal(distances(np.array(first, "int32"), np.array(second, "int32")), [3])


@pytest.mark.parametrize("length", [0, 3])
def test_empty_sequences(length):
    full, empty = np.full((B, length), 5, "int32"), np.zeros((B, 0), "int32")
    np.testing.assert_array_equal(distances(full, empty), [length] * B)
    np.testing.assert_array_equal(distances(empty, full), [length] * B)


def test_cut_at_the_end_or_padding():
    ids = ops.convert_to_tensor(np.array([[5, 6, 2, 7], [2, 5, 5, 5], [5, 0, 5, 5], [5, 6, 7, 8]], "int32"))
    wanted = [[5, 6, 0, 0], [0, 0, 0, 0], [5, 0, 0, 0], [5, 6, 7, 8]]
    np.testing.assert_array_equal(cut_at_end(ids, SpecialIds()), wanted)


def test_costs_weigh_the_edits_of_each_text():
    # The rows hold the texts 5 6, 7 and 5 6, 7 8: costs 3 and 0.5, and a place that does not count between them.
    first, second = np.array([[5, 6, 0, 7]], "int32"), np.array([[6, 5, 7, 8]], "int32")
    costs = np.array([[3, 3, 0, 0.5]], "float32"), np.array([[3, 3, 0.5, 0.5]], "float32")
    texts = np.array([[0, 0, 0, 1]], "int32"), np.array([[0, 0, 1, 1]], "int32")
    first, second, *pairs = (ops.convert_to_tensor(each) for each in (first, second, *costs, *texts))
    found = edit_distances(first, second, pairs[:2], pairs[2:])
    np.testing.assert_allclose(found, [2 * 3 + 0.5])  # a swap, and an insertion


def test_nothing_is_substituted_across_texts():
    first, second = np.array([[5]], "int32"), np.array([[5]], "int32")
    texts = np.array([[0]], "int32"), np.array([[1]], "int32")
    found = edit_distances(
        *(ops.convert_to_tensor(each) for each in (first, second)),
        texts=tuple(ops.convert_to_tensor(each) for each in texts),
    )
    np.testing.assert_array_equal(found, [2])
