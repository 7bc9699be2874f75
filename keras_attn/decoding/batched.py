"""Generation over many batches, with a progress bar."""

import keras


def generate_batches(model, batches, verbose=1, **named):
    """Generates for every batch of sources, with a progress bar.

    Args:
        model: With a `generate`, as the recipes have it.
        batches: A `tf.data.Dataset` or any iterable of sources.
        verbose: 1 shows a progress bar, 0 does not.
        **named: As for `generate`.

    Yields:
        `Generated`, batch by batch.
    """
    try:
        number = len(batches)
    except TypeError:  # not known beforehand
        number = None
    progress = keras.utils.Progbar(number, unit_name="batch", verbose=verbose)
    for source in batches:
        yield model.generate(source, **named)
        progress.add(1)
