"""The last checkpoints of a training, to resume it or to average them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

import keras

from keras_attn.base.checks import check_positive

SUFFIX = ".weights.h5"


class Checkpoints(keras.callbacks.Callback):
    """Keeps the weights and the optimizer's state after each of the last epochs.

    A file is written under another name and then renamed, so that it is never incomplete, even if the
    training is killed. `keras.callbacks.BackupAndRestore` keeps the last epoch only, `ModelCheckpoint` all.

    Args:
        folder: Folder of the files, `00001.weights.h5` after the first epoch; created if it is missing.
        number: Number of last epochs to keep.

    Raises:
        ValueError: If `number` is not a positive integer; in `fit`, if the folder holds checkpoints of
            later epochs, which belong to another training.

    Example:
    >>> import keras, numpy as np, tempfile
    >>> from keras_attn import training
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> checkpoints = training.Checkpoints(tempfile.mkdtemp(), number=2)
    >>> done = checkpoints.restore(model)  # 0: there is nothing yet
    >>> ones = np.ones((4, 1))
    >>> history = model.fit(ones, ones, epochs=3, initial_epoch=done, callbacks=[checkpoints], verbose=0)
    >>> [path.name for path in checkpoints.files]
    ['00002.weights.h5', '00003.weights.h5']
    >>> training.average_weights(model, checkpoints.files)
    >>> checkpoints.restore(model)
    3
    """

    def __init__(self, folder: str | os.PathLike[str], number: int = 5) -> None:
        super().__init__()
        check_positive("number", number)
        self.folder = pathlib.Path(folder)
        self.number = number

    @property
    def files(self) -> list[pathlib.Path]:
        """The paths of the checkpoints, in the order of their epochs."""
        return sorted(path for path in self.folder.glob(f"*{SUFFIX}") if epochs_done(path))

    def restore(self, model: keras.Model) -> int:
        """Loads the last checkpoint, if any, into a compiled model.

        Under `tf.distribute`, the model's optimizer must have been built in the strategy's scope.

        Returns:
            The number of epochs done, for `fit(initial_epoch=...)`.

        Raises:
            ValueError: If the model is not built or not compiled.
        """
        if not (model.built and model.compiled):
            raise ValueError(
                "`model` must be built and compiled, to load its weights and its optimizer's state. "
                f"Received: built={model.built}, compiled={model.compiled}."
            )
        files = self.files
        if not files:
            return 0
        if not model.optimizer.built:  # else its state is not loaded
            model.optimizer.build(model.trainable_variables)
        model.load_weights(files[-1])
        return epochs_done(files[-1])

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        done = max(map(epochs_done, self.files), default=0)
        if done > epoch:
            raise ValueError(
                f"{self.folder} holds a training of {done} epochs: resume it with "
                f"`fit(initial_epoch=checkpoints.restore(model))`, or use another folder. Received: epoch {epoch}."
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"draft{SUFFIX}"
        self.model.save_weights(draft)
        draft.replace(self.folder / f"{epoch + 1:05}{SUFFIX}")
        for old in self.files[: -self.number]:
            old.unlink()


def epochs_done(path: pathlib.Path) -> int:
    """Returns the number of epochs before a checkpoint was written, 0 for a file that is not a checkpoint."""
    number = path.name.removesuffix(SUFFIX)
    return int(number) if number.isdecimal() else 0
