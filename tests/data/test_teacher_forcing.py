"""Teacher forcing in a `tf.data` pipeline of one's own."""

import pytest
import tensorflow as tf

from keras_attn import data

pytestmark = pytest.mark.tensorflow

SOURCE = [[5, 6, 2], [4, 2, 0]]


def test_by_hand():
    inputs, labels = data.teacher_forcing(tf.constant(SOURCE), tf.constant([[7, 2, 0, 0], [5, 6, 8, 2]]))
    assert inputs["source"].numpy().tolist() == SOURCE
    assert inputs["target"].numpy().tolist() == [[1, 7, 0, 0], [1, 5, 6, 8]]
    assert labels.numpy().tolist() == [[7, 2, 0, 0], [5, 6, 8, 2]]


def test_an_empty_target_is_its_end():
    inputs, labels = data.teacher_forcing(tf.constant([[2]]), tf.constant([[2]]))
    assert inputs["target"].numpy().tolist() == [[1]] and labels.numpy().tolist() == [[2]]


def test_the_batches_are_those_of_batches():
    pairs = data.encode([([5, 6], [7, 8, 9])], data.Ids(10), data.Ids(10))
    wanted_inputs, wanted = next(data.Batches(pairs, data.Padded(1)).arrays(0))
    inputs, labels = data.teacher_forcing(*(tf.constant([ids]) for ids in pairs[0]))
    assert (labels.numpy() == wanted).all()
    assert all((inputs[name].numpy() == wanted_inputs[name]).all() for name in ("source", "target"))


def test_of_free_sizes_in_a_pipeline():
    dataset = tf.data.Dataset.from_tensor_slices(([[5, 2]], tf.constant([[7, 2]], "int64"))).batch(3)
    inputs, labels = next(iter(dataset.map(data.teacher_forcing)))
    assert inputs["target"].numpy().tolist() == [[1, 7]] and labels.dtype == inputs["target"].dtype == "int64"


def test_lists_will_do_and_other_things_are_named():
    inputs, _ = data.teacher_forcing([[5, 2]], [[6, 2]])
    assert inputs["target"].numpy().tolist() == [[1, 6]]
    with pytest.raises(ValueError, match=r"`target` must be integer ids \[B, T\]. Received: target.dtype=float32"):
        data.teacher_forcing([[5]], [[0.5]])
    with pytest.raises(ValueError, match=r"`source` must be integer ids \[B, S\]"):
        data.teacher_forcing([5], [[5]])
    with pytest.raises(ValueError, match="`target` must be ids padded to one length. Received: RaggedTensor"):
        data.teacher_forcing([[5]], tf.ragged.constant([[5], [6, 7]]))
