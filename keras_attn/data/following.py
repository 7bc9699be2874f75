"""A callback that tells the pipeline which epoch it is, so that a resumed training is the one it would have been."""

import keras
import numpy as np
import tensorflow as tf

from keras_attn.data.batches import Batches

DRAWS_PER_EPOCH = 2**20  # what a layer draws in an epoch, or so


class FollowEpochs(keras.callbacks.Callback):
    """Feeds `fit` the batches of the epoch that it is in, also where it goes on after a restart.

    `keras.callbacks.BackupAndRestore` says only inside `fit` at which epoch a training goes on;
    this callback's `dataset` follows it. Hand both to `fit`: the dataset raises an error where the
    callback was left out. What Keras' layers draw by chance (dropout) becomes a function of their
    seeds and the epoch's number too, for Keras keeps no state of it in its backups: after
    `keras.utils.set_random_seed`, a training resumed after a whole epoch has the losses of one that
    was never killed. (With `BackupAndRestore(save_freq=<batches>)` Keras goes on with the weights
    of the middle of an epoch, and trains that epoch once more from its beginning.) A loop of your
    own calls `set_model(model)`, and `on_epoch_begin(epoch)` before it reads `dataset`.

    Args:
        batches: The `Batches`.

    Raises:
        ValueError: If `batches` are none, and in `fit` for a `steps_per_epoch` that ends epochs early.

    Attributes:
        dataset: A `tf.data.Dataset` of the batches of the current epoch.

    Example:
    >>> import keras
    >>> from keras_attn import data, models
    >>> pairs = data.encode([([5, 6], [7]), ([8], [5, 4])], data.Ids(9), data.Ids(9))
    >>> follow = data.FollowEpochs(data.Batches(pairs, data.Packed(8, 8, batch_size=2)))
    >>> model = models.Transformer(9, 9, num_layers=1, size=8, num_heads=2, hidden_size=8)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0))
    >>> history = model.fit(follow.dataset, epochs=2, callbacks=[follow], shuffle=False, verbose=0)
    """

    def __init__(self, batches):
        super().__init__()
        if not isinstance(batches, Batches):
            raise ValueError(f"`batches` must be `Batches`. Received: {batches.__class__.__name__}.")
        self.batches = batches
        self.epoch = 0
        self.finished = False
        dataset = batches.as_dataset(self._arrays)
        self.dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))

    def on_epoch_begin(self, epoch, logs=None):
        num_steps = (self.params or {}).get("steps")
        if num_steps is not None and num_steps < len(self.batches):
            raise ValueError(
                "`fit` must be given no `steps_per_epoch` with a `FollowEpochs`: an epoch has all of its "
                f"{len(self.batches)} batches. Received: steps_per_epoch={num_steps}."
            )
        self.epoch = epoch
        self.finished = False
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":  # the seed, and how often it was drawn from
                seed = keras.ops.convert_to_numpy(variable)[0]
                variable.assign(np.array([seed, epoch * DRAWS_PER_EPOCH % 2**32], "uint32"))

    def _arrays(self):
        if self.finished:
            raise ValueError(
                f"The batches of epoch {self.epoch} are read a second time: hand the `FollowEpochs` of this dataset "
                "to `fit(callbacks=[...])`, or take `batches.epoch(number)` elsewhere."
            )
        yield from self.batches.arrays(self.epoch)
        self.finished = True
