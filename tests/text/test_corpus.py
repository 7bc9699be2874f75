"""Datasets of all forms give the same vocabulary; others are refused."""

import numpy as np
import pytest
import tensorflow as tf

from .corpus import CORPUS, each_class

pytestmark = pytest.mark.tensorflow


@each_class
def test_datasets_of_all_forms(kind):
    ragged = tf.data.Dataset.from_tensor_slices(CORPUS)
    forms = [CORPUS, iter(CORPUS), np.array(CORPUS), ragged, ragged.batch(3), ragged.filter(lambda text: True)]
    learned = []
    for form in forms:
        tokenizer = kind()
        tokenizer.adapt(form, vocabulary_size=61, verbose=0)
        learned.append(tokenizer.tokens)
    assert all(tokens == learned[0] for tokens in learned[1:])


@each_class
def test_adapt_shows_its_progress(kind, capsys):
    kind().adapt(CORPUS, vocabulary_size=67)
    assert "4/4" in capsys.readouterr().out
    kind().adapt((text for text in CORPUS), vocabulary_size=67)
    assert "4/Unknown" in capsys.readouterr().out
    kind().adapt(CORPUS, vocabulary_size=67, verbose=0)
    assert not capsys.readouterr().out


@each_class
def test_errors_of_datasets(kind):
    for dataset in ([], [""], tf.data.Dataset.from_tensor_slices(["x"]).take(0)):
        with pytest.raises(ValueError, match="`dataset` must have at least one t"):
            kind().adapt(dataset, verbose=0)
    for dataset in ("text", 7):
        with pytest.raises(
            ValueError, match="`dataset` must be a `tf.data.Dataset` of strings or an iterable of `str`"
        ):
            kind().adapt(dataset, verbose=0)
    for dataset in (
        tf.data.Dataset.range(3),
        tf.data.Dataset.from_tensors([["a"]]),
        tf.data.Dataset.from_tensors({"a": "b"}),
    ):
        with pytest.raises(ValueError, match=r"`dataset` must have string scalars or strings \[B\] as elements"):
            kind().adapt(dataset, verbose=0)
    with pytest.raises(ValueError, match="`texts` must be strings"):
        kind().adapt([1, 2], verbose=0)
