"""A callback that passes the number of the epoch to the pipeline, so that a resumed training sees the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_attn.data.batches import Batch, Batches

DRAWS_PER_EPOCH = 2**20  # an upper bound of the draws of a layer in an epoch


class FollowEpochs(keras.callbacks.Callback):
    """Provides the batches of the current epoch to `fit`, also after a restart.

    `keras.callbacks.BackupAndRestore` sets the first epoch only inside `fit`; the `dataset` of this
    callback follows it. Pass both to `fit`: without the callback, the dataset raises an error.

    The callback also seeds Keras' random layers (dropout) from their seeds and the number of the epoch,
    because Keras' backups do not contain their state. After `keras.utils.set_random_seed`, a training
    that resumes after a whole epoch therefore has the losses of an uninterrupted one. (With
    `BackupAndRestore(save_freq=<batches>)` Keras resumes with weights from the middle of an epoch, and
    repeats that epoch from its beginning.) Your own training loop must call `set_model(model)`, and
    `on_epoch_begin(epoch)` before it reads `dataset`.

    Args:
        batches: The `Batches`.

    Raises:
        ValueError: If `batches` are not `Batches`; in `fit`, if `steps_per_epoch` ends epochs early.

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

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        if not isinstance(batches, Batches):
            raise ValueError(f"`batches` must be `Batches`. Received: {batches.__class__.__name__}.")
        self.batches = batches
        self.epoch = 0
        self.finished = False
        dataset = batches.as_dataset(self._arrays)
        self.dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        num_steps = (self.params or {}).get("steps")
        if num_steps is not None and num_steps < len(self.batches):
            raise ValueError(
                "`fit` must be given no `steps_per_epoch` with a `FollowEpochs`: an epoch has all of its "
                f"{len(self.batches)} batches. Received: steps_per_epoch={num_steps}."
            )
        self.epoch = epoch
        self.finished = False
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":  # the seed, and the number of draws
                seed = keras.ops.convert_to_numpy(variable)[0]
                variable.assign(np.array([seed, epoch * DRAWS_PER_EPOCH % 2**32], "uint32"))

    def _arrays(self) -> Iterator[Batch]:
        if self.finished:
            raise ValueError(
                f"The batches of epoch {self.epoch} are read a second time: pass the `FollowEpochs` of this dataset "
                "to `fit(callbacks=[...])`, or use `batches.epoch(number)` elsewhere."
            )
        yield from self.batches.arrays(self.epoch)
        self.finished = True
