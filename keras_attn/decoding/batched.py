"""Generation over many batches, with a progress bar."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_attn.base.types import ArrayLike
from keras_attn.decoding.strategies import Generated


def generate_batches(
    model: keras.Model, batches: Iterable[ArrayLike], verbose: int = 1, **named: Any
) -> Iterator[Generated]:
    """Generates for every batch of sources, with a progress bar.

    Args:
        model: A model with `generate`, as the recipes return it.
        batches: A `tf.data.Dataset` or any iterable of sources.
        verbose: 1 shows a progress bar, 0 does not.
        **named: Passed to `generate`.

    Yields:
        `Generated`, batch by batch.
    """
    try:
        number = len(batches)  # type: ignore[arg-type]
    except TypeError:  # an iterable without a length
        number = None
    progress = keras.utils.Progbar(number, unit_name="batch", verbose=verbose)
    for source in batches:
        yield model.generate(source, **named)
        progress.add(1)
