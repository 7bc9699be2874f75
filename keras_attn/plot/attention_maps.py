"""A callback that draws a model's attention during training, for TensorBoard."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_attn.base.checks import check_axes, check_positive
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.tensors import as_array
from keras_attn.base.types import ArrayLike
from keras_attn.plot.figures import heat_map
from keras_attn.plot.fonts import Tokens
from keras_attn.plot.texts import check_attends

if TYPE_CHECKING:  # TensorFlow is imported only where it is used: figures do not need it
    import tensorflow as tf
    from matplotlib.figure import Figure


class AttentionMaps(keras.callbacks.Callback):
    """Writes heat maps of a model's attention for TensorBoard, after every `every` epochs.

    The model must have `attention_scores(source, target)`, as the recipes with a source have. Scores
    `[B, T, S]` are one image per text, `[B, N, H, T, S]` one per text and block with all heads.
    Padding is not drawn.

    Args:
        log_dir: Folder that TensorBoard reads.
        source: Ids `[B, S]` of the texts to draw.
        target: Ids `[B, T]`, with the start id first.
        source_tokens: For each text the tokens of its source without padding, or None for positions.
        target_tokens: The same for the target.
        every: Number of epochs between two images.
        special_ids: The `SpecialIds` of the ids; padding is 0 by default.

    Raises:
        ImportError: Without matplotlib, or without TensorFlow, which writes the files.
        ValueError: For ids of other shapes, rows with only padding, or different numbers of tokens and ids;
            when the training begins, for a model without attention scores, or ids outside its
            vocabulary.

    Example:
    >>> import numpy as np
    >>> from keras_attn import plot
    >>> source, target = np.array([[5, 6, 2]]), np.array([[1, 7]])
    >>> callback = plot.AttentionMaps("logs", source, target, [["good", "day", "</s>"]], [["<s>", "hello"]])
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        source: ArrayLike,
        target: ArrayLike,
        source_tokens: Sequence[Tokens] | None = None,
        target_tokens: Sequence[Tokens] | None = None,
        every: int = 1,
        special_ids: SpecialIds | None = None,
    ) -> None:
        super().__init__()
        check_positive("every", every)
        self.log_dir = os.fspath(log_dir)
        special_ids = special_ids_or_default(special_ids)
        self.source, self.target = integer_array("source", source), integer_array("target", target)
        check_axes({"source": "BS", "target": "BT"}, {"source": self.source, "target": self.target})
        to_numpy = keras.ops.convert_to_numpy
        self._real = to_numpy(special_ids.is_real(self.source)), to_numpy(special_ids.is_read(self.target))
        for name, real in zip(("source", "target"), self._real, strict=True):
            check_not_empty(name, real)
        self.source_tokens = checked_tokens("source_tokens", source_tokens, self._real[0])
        self.target_tokens = checked_tokens("target_tokens", target_tokens, self._real[1])
        self.every = every
        self._writer: tf.summary.SummaryWriter  # set when a training begins

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        check_attends(model)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        import tensorflow as tf

        self._scores()  # raises errors before the first epoch
        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if (epoch + 1) % self.every:
            return
        scores = self._scores()
        for row, of_row in enumerate(scores):
            blocks = {"": of_row} if scores.ndim == 3 else {f"/block_{n}": of for n, of in enumerate(of_row, start=1)}
            for name, of_block in blocks.items():
                self._write(f"attention_{row}{name}", self._drawn(of_block, row, epoch), epoch)
        self._writer.flush()

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        self._writer.close()

    def _scores(self) -> np.ndarray:
        """Returns the model's attention scores for the texts."""
        return keras.ops.convert_to_numpy(self.model.attention_scores(self.source, self.target))

    def _drawn(self, scores: np.ndarray, row: int, epoch: int) -> Figure:
        """Returns the heat map of scores `[T, S]` or `[H, T, S]`."""
        columns, rows = (real[row] for real in self._real)
        scores = scores[..., rows, :][..., columns]
        return heat_map(scores, self.source_tokens[row], self.target_tokens[row], title=f"epoch {epoch + 1}")

    def _write(self, name: str, figure: Figure, epoch: int) -> None:
        """Writes a figure in the format of `tf.summary.image`, which would need TensorBoard."""
        import tensorflow as tf

        png = io.BytesIO()
        figure.savefig(png, format="png")
        width, height = (str(int(size * figure.dpi)) for size in figure.get_size_inches())
        metadata = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_BLOB_SEQUENCE")
        metadata.plugin_data.plugin_name = "images"
        with self._writer.as_default():
            tf.summary.write(name, tf.constant([width, height, png.getvalue()]), step=epoch, metadata=metadata)


def integer_array(name: str, ids: ArrayLike) -> np.ndarray:
    """Returns ids as an array, after checking that they are integers."""
    ids = np.asarray(as_array(name, ids))
    if ids.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must hold integer ids. Received: {name}.dtype={ids.dtype}, {name}.shape={ids.shape}."
        )
    return ids


def check_not_empty(name: str, real: np.ndarray) -> None:
    """Raises a `ValueError` if a row of `real`, which is True where there are ids, has no id."""
    if not real.any(axis=-1).all():
        raise ValueError(
            f"`{name}` must hold integer ids, in each row one that is not padding. Received: {name}.shape={real.shape}."
        )


def checked_tokens(name: str, tokens: Sequence[Tokens] | None, real: np.ndarray) -> Sequence[Tokens | None]:
    """Returns the tokens of each row, or None for each, after checking that there is one per id."""
    counts = [int(count) for count in np.count_nonzero(real, axis=1)]
    if tokens is None:
        return [None] * len(counts)
    received = [len(row) for row in tokens]
    if received != counts:
        raise ValueError(f"`{name}` must be lists of {counts} tokens. Received: lists of {received}.")
    return tokens
