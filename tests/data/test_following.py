"""A killed training goes on with the batches, and the losses, that it would have had."""

import keras
import pytest

from keras_attn import data

pytestmark = pytest.mark.tensorflow

PAIRS = [([4 + i % 7] * (1 + i % 5), [4 + i % 3] * (1 + i % 4)) for i in range(40)]


class KilledError(Exception):
    pass


class KillIn(keras.callbacks.Callback):
    """Ends a training at the second batch of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 1):
            raise KilledError


def new_batches():
    pairs = data.encode(PAIRS, data.Ids(12), data.Ids(12))
    return data.Batches(pairs, data.Bucketed((3, 6), tokens=24), seed=5)


def new_model():
    """A model that is compiled soon."""
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("source", "target")}
    source = keras.layers.GlobalAveragePooling1D(keepdims=True)(keras.layers.Embedding(12, 8)(inputs["source"]))
    hidden = keras.layers.Add()([keras.layers.Embedding(12, 8)(inputs["target"]), source])
    outputs = keras.layers.Dense(12)(keras.layers.Dropout(0.3, seed=1)(hidden))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def curve(epochs, *callbacks):
    """Trains a fresh model on fresh batches and returns the losses of its epochs."""
    keras.utils.set_random_seed(3)
    follow = data.FollowEpochs(new_batches())
    fitted = new_model().fit(follow.dataset, epochs=epochs, callbacks=[*callbacks, follow], shuffle=False, verbose=0)
    return fitted.history["loss"]


def test_the_same_seed_gives_the_same_curve_also_where_a_killed_training_resumes(tmp_path):
    whole = curve(4)
    assert curve(4) == whole
    backup = {"backup_dir": tmp_path, "delete_checkpoint": False}
    with pytest.raises(KilledError):
        curve(4, keras.callbacks.BackupAndRestore(**backup), KillIn(epoch=2))
    assert curve(4, keras.callbacks.BackupAndRestore(**backup)) == whole[2:]


def test_a_forgotten_callback_is_an_error():
    follow = data.FollowEpochs(new_batches())
    assert follow.dataset.cardinality() == len(follow.batches)
    assert sum(1 for _ in follow.dataset) == len(follow.batches)
    with pytest.raises(Exception, match="The batches of epoch 0 are read a second time: pass the `FollowEpochs`"):
        list(follow.dataset)


def test_epochs_are_whole():
    follow = data.FollowEpochs(new_batches())
    steps = len(follow.batches)
    options = {"callbacks": [follow], "shuffle": False, "verbose": 0}
    new_model().fit(follow.dataset, steps_per_epoch=steps, **options)
    with pytest.raises(ValueError, match=rf"an epoch has all of its {steps} batches. Received: steps_per_epoch=2"):
        new_model().fit(follow.dataset, steps_per_epoch=2, **options)


def test_batches_are_wanted():
    with pytest.raises(ValueError, match="`batches` must be `Batches`. Received: "):
        data.FollowEpochs(new_batches().epoch(0))


def test_a_loop_of_ones_own_tells_the_epoch():
    follow = data.FollowEpochs(new_batches())
    follow.set_model(new_model())
    for epoch in (2, 0):
        follow.on_epoch_begin(epoch)
        wanted = [labels for _, labels in follow.batches.arrays(epoch)]
        for (_, labels), array in zip(follow.dataset, wanted, strict=True):
            assert labels.numpy().tolist() == array.tolist()
