"""Texts to learn a vocabulary from: batches of strings, with a progress bar."""

import itertools
import operator
from collections.abc import Iterable

import keras
import tensorflow as tf

from keras_attn.text.tokenizer import as_texts

BATCH_SIZE = 1024


def text_batches(dataset, verbose):
    """Yields string tensors `[B]` of a dataset.

    Args:
        dataset: A `tf.data.Dataset` of string scalars or of strings `[B]`, or an iterable of `str`.
        verbose: 1 for a progress bar over the dataset's elements, 0 for none.

    Raises:
        ValueError: If the dataset holds anything else.
    """
    if isinstance(dataset, (str, bytes)) or not isinstance(dataset, Iterable):
        raise ValueError(
            "`dataset` must be a `tf.data.Dataset` of strings or an iterable of `str`. "
            f"Received: {dataset.__class__.__name__}."
        )
    batches = of_dataset(dataset) if isinstance(dataset, tf.data.Dataset) else of_iterable(dataset)
    bar = keras.utils.Progbar(operator.length_hint(dataset) or None, verbose=verbose)
    num_seen = 0
    for texts, num_elements in batches:
        yield texts
        num_seen += num_elements
        bar.update(num_seen, finalize=False)
    bar.update(num_seen, finalize=True)


def of_dataset(dataset):
    """Yields string tensors `[B]` and how many elements of the `tf.data.Dataset` each of them is."""
    spec = dataset.element_spec
    if not isinstance(spec, tf.TensorSpec) or spec.dtype != tf.string or spec.shape.rank not in (0, 1):
        raise ValueError(f"`dataset` must have string scalars or strings [B] as elements. Received: {spec}.")
    if spec.shape.rank == 1:
        yield from ((texts, 1) for texts in dataset)
    else:
        yield from ((texts, len(texts)) for texts in dataset.batch(BATCH_SIZE))


def of_iterable(texts):
    """Yields string tensors `[B]` and how many elements of the iterable each of them is."""
    iterator = iter(texts)
    while batch := list(itertools.islice(iterator, BATCH_SIZE)):
        yield as_texts(batch), len(batch)
