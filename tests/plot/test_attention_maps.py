"""The callback writes heat maps as images for TensorBoard."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import models, plot

from .drawing import draw

pytestmark = pytest.mark.tensorflow

SOURCE, TARGET = np.array([[5, 6, 2, 0], [7, 2, 0, 0]], "int32"), np.array([[1, 7, 8], [1, 7, 0]], "int32")
TOKENS = [["good", "day", "end"], ["x", "end"]], [["start", "guten", "Tag"], ["start", "y"]]


def images(folder):
    """The images in a folder of TensorBoard's, by name and step: pixels `[height, width, 4]`."""
    import tensorflow as tf

    found = {}
    for path in folder.iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "images"
                width, height, png = value.tensor.string_val
                found[value.tag, event.step] = pixels = tf.image.decode_png(png).numpy()
                assert pixels.shape == (int(height), int(width), 4)
    return found


class Attending(keras.Model):
    """A model of two blocks and heads, of which only the attention is there."""

    def attention_scores(self, source, target):
        shape = (2, 2, 2, target.shape[1], source.shape[1])
        return ops.convert_to_tensor(np.random.default_rng(7).uniform(size=shape).astype("float32"))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: models.RNNSeq2Seq(11, 13, size=2), ["attention_0", "attention_1"]),
        (Attending, [f"attention_{row}/block_{n}" for row in (0, 1) for n in (1, 2)]),
    ],
    ids=["rnn", "transformer"],
)
def test_attention_maps_while_training(make, names, tmp_path):
    pytest.importorskip("tensorflow")
    model = make()
    maps = plot.AttentionMaps(tmp_path, SOURCE, TARGET, *TOKENS, every=2)
    callbacks = keras.callbacks.CallbackList([maps], model=model)
    callbacks.on_train_begin()
    for epoch in range(5):
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    found = images(tmp_path)
    assert sorted(found) == sorted((name, step) for name in names for step in (1, 3))
    scores = ops.convert_to_numpy(model.attention_scores(SOURCE, TARGET))
    last = scores[1, :2, :2] if scores.ndim == 3 else scores[1, 1, :, :2, :2]  # padding left out
    wanted = draw(plot.heat_map(last, TOKENS[0][1], TOKENS[1][1], title="epoch 4"))
    np.testing.assert_array_equal(found[names[-1], 3], wanted)


def test_what_a_callback_refuses():
    for arguments, message in [
        ((SOURCE[0], TARGET), r"`source` must have 2 axes, \[B, S\]"),
        ((SOURCE, TARGET[:1]), r"`target` must have shape \[B, T\] with B=2 as in `source`"),
        (
            (SOURCE, TARGET, [["a"], ["b"]]),
            r"`source_tokens` must be lists of \[3, 2\] tokens. Received: lists of \[1, 1\]",
        ),
        (
            (SOURCE, TARGET, None, [["a"]]),
            r"`target_tokens` must be lists of \[3, 2\] tokens. Received: lists of \[1\]",
        ),
        (([[5, 2], [0, 0]], TARGET), "`source` must hold integer ids, in each row one that is not padding"),
        ((SOURCE, TARGET + 0.5), "`target` must hold integer ids.* Received: target.dtype=float64"),
        (([[5, 2], [5]], TARGET), "`source` must have rows of one length: .* Received: source of type list"),
    ]:
        with pytest.raises(ValueError, match=message):
            plot.AttentionMaps("logs", *arguments)
    with pytest.raises(ValueError, match="`every` must be an integer of at least 1. Received: every=0"):
        plot.AttentionMaps("logs", SOURCE, TARGET, every=0)
    with pytest.raises(
        ValueError, match=r"`model` must have `attention_scores\(source, target\)`. Received: a Sequential"
    ):
        plot.AttentionMaps("logs", SOURCE, TARGET).set_model(keras.Sequential())


def test_ids_that_a_model_does_not_know_are_refused_before_the_training(tmp_path):
    model = models.RNNSeq2Seq(5, 5, size=4)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = np.ones((1, 2), "int32")
    callback = plot.AttentionMaps(tmp_path, ids + 6, ids)
    with pytest.raises(ValueError, match="`source` must hold ids from 0 to 4"):
        model.fit({"source": ids, "target": ids}, ids, callbacks=[callback], verbose=0)
    assert not list(tmp_path.iterdir())
