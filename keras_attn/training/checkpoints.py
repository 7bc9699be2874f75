"""The last checkpoints of a training: to resume from, and to average."""

import pathlib

import keras

from keras_attn.base.checks import check_positive

SUFFIX = ".weights.h5"


class Checkpoints(keras.callbacks.Callback):
    """Keeps the weights and the optimizer's state after each of the last epochs.

    A file is written aside and renamed, so that it is whole or not there, whenever the training is
    killed. `keras.callbacks.BackupAndRestore` keeps one epoch's state only, `ModelCheckpoint` all.

    Args:
        folder: Where the files are, `00001.weights.h5` after the first epoch; made if it is missing.
        number: How many of the last epochs are kept.

    Raises:
        ValueError: If `number` is no positive integer; and in `fit`, if the folder holds checkpoints of
            later epochs, those of another training, which would be mixed with the new ones.

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

    def __init__(self, folder, number=5):
        super().__init__()
        check_positive("number", number)
        self.folder = pathlib.Path(folder)
        self.number = number

    @property
    def files(self):
        """The paths of the checkpoints, the last epoch's last."""
        return sorted(path for path in self.folder.glob(f"*{SUFFIX}") if epochs_done(path))

    def restore(self, model):
        """Gives a compiled model the state of the last checkpoint, if there is one.

        Under `tf.distribute`, the model's optimizer must have been built in the strategy's scope.

        Returns:
            How many epochs were done, to be `fit`'s `initial_epoch`.

        Raises:
            ValueError: If the model is not built or not compiled.
        """
        if not (model.built and model.compiled):
            raise ValueError(
                "`model` must be built and compiled, for its weights and its optimizer's state. "
                f"Received: built={model.built}, compiled={model.compiled}."
            )
        files = self.files
        if not files:
            return 0
        if not model.optimizer.built:  # or its state would be left out
            model.optimizer.build(model.trainable_variables)
        model.load_weights(files[-1])
        return epochs_done(files[-1])

    def on_epoch_begin(self, epoch, logs=None):
        done = max(map(epochs_done, self.files), default=0)
        if done > epoch:
            raise ValueError(
                f"{self.folder} holds a training of {done} epochs: go on with it, "
                f"`fit(initial_epoch=checkpoints.restore(model))`, or take another folder. Received: epoch {epoch}."
            )

    def on_epoch_end(self, epoch, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"draft{SUFFIX}"
        self.model.save_weights(draft)
        draft.replace(self.folder / f"{epoch + 1:05}{SUFFIX}")
        for old in self.files[: -self.number]:
            old.unlink()


def epochs_done(path):
    """Returns after how many epochs a file was written, 0 for a file that is no checkpoint."""
    number = path.name.removesuffix(SUFFIX)
    return int(number) if number.isdecimal() else 0
