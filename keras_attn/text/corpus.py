"""Texts to learn a vocabulary from: batches of strings, with a progress bar."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import keras
import tensorflow as tf

from keras_attn.text.tokenizer import as_texts

CORPUS_BATCH_SIZE = 1024

TextDataset: TypeAlias = "tf.data.Dataset | Iterable[str]"
"""The texts for `adapt`: a `tf.data.Dataset` of string scalars or of strings `[B]`, or an iterable of `str`."""


def text_batches(dataset: TextDataset, verbose: int) -> Iterator[tf.Tensor]:
    """Yields string tensors `[B]` of a dataset.

    Args:
        dataset: A `tf.data.Dataset` of string scalars or of strings `[B]`, or an iterable of `str`.
        verbose: 1 shows a progress bar over the elements of the dataset, 0 shows none.

    Raises:
        ValueError: If the dataset has other elements.
    """
    if isinstance(dataset, (str, bytes)) or not isinstance(dataset, Iterable):
        raise ValueError(
            "`dataset` must be a `tf.data.Dataset` of strings or an iterable of `str`. "
            f"Received: {dataset.__class__.__name__}."
        )
    batches = batches_of_dataset(dataset) if isinstance(dataset, tf.data.Dataset) else batches_of_iterable(dataset)
    bar = keras.utils.Progbar(operator.length_hint(dataset) or None, verbose=verbose)
    num_seen = 0
    for texts, num_elements in batches:
        yield texts
        num_seen += num_elements
        bar.update(num_seen, finalize=False)
    bar.update(num_seen, finalize=True)


def batches_of_dataset(dataset: tf.data.Dataset) -> Iterator[tuple[tf.Tensor, int]]:
    """Yields string tensors `[B]`, each with its number of elements of the `tf.data.Dataset`."""
    spec = dataset.element_spec
    if not isinstance(spec, tf.TensorSpec) or spec.dtype != tf.string or spec.shape.rank not in (0, 1):
        raise ValueError(f"`dataset` must have string scalars or strings [B] as elements. Received: {spec}.")
    if spec.shape.rank == 1:
        yield from ((texts, 1) for texts in dataset)
    else:
        yield from ((texts, len(texts)) for texts in dataset.batch(CORPUS_BATCH_SIZE))


def batches_of_iterable(texts: Iterable[str]) -> Iterator[tuple[tf.Tensor, int]]:
    """Yields string tensors `[B]`, each with its number of elements of the iterable."""
    iterator = iter(texts)
    while batch := list(itertools.islice(iterator, CORPUS_BATCH_SIZE)):
        yield as_texts(batch), len(batch)
