"""Reads dates written in any of many languages: "jeudi 12 mars 1987" -> 1987-03-12.

Builds the data, trains a recurrent encoder-decoder with additive attention, saves it as
`.keras` and exports it for TF Serving, with texts as input and output. Then a new process checks
the export, loads and compares both files, prints the readings of ten dates, and draws where the
decoder attended for each character.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import quiet

# isort: split

import keras
import numpy as np
import tensorflow as tf
from dates_dataset import load

from keras_attn import data, decoding, models, plot, serving
from keras_attn.text import Characters, generate

MAX_LENGTH = 11  # ten characters of a date and the end id
BUCKETS = [14, 18, 22, 26, 32]  # source lengths, so that batches contain little padding
DRAWN = ["jeudi 12 mars 1987", "Dienstag, 3. September 2041", "среда, 9 мая 1945 г.", "Tuesday, July 4, 1876"]
STRATEGIES = {
    "greedy": decoding.Greedy(),
    "sampled": decoding.Sample(seed=0),
    "four beams": decoding.Beam(width=4),
}
DEFAULT_OUT = pathlib.Path(os.path.relpath(pathlib.Path(__file__).parents[1] / "savedmodels" / "dates"))


def main():
    arguments = parse_arguments()
    if arguments.show:
        return show(arguments.out)
    begin = time.time()
    keras.utils.set_random_seed(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    train, validation, test = (texts(split, arguments) for split in ("train", "validation", "test"))
    characters, digits = Characters(), Characters("0123456789-")
    characters.adapt(train[0], verbose=0)
    print(
        f"{len(train[0]):,} pairs to train on, {len(characters.tokens):,} characters, "
        f"data after {time.time() - begin:.0f} s"
    )

    model = models.RNNSeq2Seq(characters.vocabulary_size, digits.vocabulary_size, size=arguments.size)
    batches = bucketed(train, characters, digits, arguments.batch_size)
    num_steps = arguments.epochs * arguments.steps
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                0.0, num_steps, warmup_target=arguments.learning_rate, warmup_steps=num_steps // 20
            ),
            clipnorm=1.0,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
    )
    reader = DateReader(model, characters, digits)
    some = tuple(side[:2_000] for side in validation)
    options = {"steps_per_epoch": arguments.steps, "shuffle": False, "verbose": quiet.VERBOSE}
    model.fit(batches, epochs=arguments.epochs, callbacks=[ExactMatch(reader, some)], **options)
    rate = reader.exact_match(test)
    print(f"exact match on {len(test[0]):,} texts of unseen dates: {rate:.2%} after {time.time() - begin:.0f} s")
    for name, strategy in STRATEGIES.items():
        print(f"the first 2,000 of them, {name}: {reader.exact_match(tuple(s[:2_000] for s in test), strategy):.2%}")

    untied = model.__class__.from_config(model.get_config())  # without the optimizer, which is twice as large
    untied.set_weights(model.get_weights())
    untied.save(arguments.out / "model.keras")
    vocabularies = {"source": characters.tokens, "target": digits.tokens}
    samples = dict(zip(test[0][:10], test[1][:10], strict=True))
    for name, value in (("vocabularies", vocabularies), ("samples", samples)):
        (arguments.out / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    path = serving.export(model, arguments.out, characters, digits, max_length=MAX_LENGTH, warmup=DRAWN)
    print(f"exported to {path}")
    subprocess.run([sys.executable, __file__, "--show", "--out", str(arguments.out)], check=True)
    print(f"everything took {time.time() - begin:.0f} s")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of training, each followed by a validation")
    parser.add_argument("--steps", type=int, default=200, help="batches in an epoch")
    parser.add_argument("--batch-size", type=int, default=256, help="pairs in a batch")
    parser.add_argument("--size", type=int, default=128, help="size of embeddings and states")
    parser.add_argument("--learning-rate", type=float, default=4e-3, help="highest learning rate, after the warm-up")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the order of the data")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="folder for models and pictures")
    parser.add_argument("--data-dir", default=None, help="folder for the data; TFDS' own by default")
    parser.add_argument(
        "--show", action="store_true", help="do not train: load the models in --out, compare, read, draw"
    )
    return parser.parse_args()


def texts(split, arguments):
    """Returns the written dates and their ISO forms, two lists of strings."""
    pairs = load(split, data_dir=arguments.data_dir).batch(10_000).as_numpy_iterator()
    batches = [(batch["source"], batch["target"]) for batch in pairs]
    return tuple([text.decode() for batch in batches for text in batch[side]] for side in (0, 1))


def bucketed(pairs, characters, digits, batch_size):
    """Returns infinite shuffled batches of similar source lengths, padded to the longest text of each."""
    dataset = tf.data.Dataset.from_tensor_slices(pairs).shuffle(len(pairs[0])).repeat()
    dataset = dataset.bucket_by_sequence_length(
        lambda written, date: tf.strings.length(written, unit="UTF8_CHAR"),
        BUCKETS,
        [batch_size] * (len(BUCKETS) + 1),
    )
    return dataset.map(
        lambda written, date: data.teacher_forcing(characters.tokenize(written), digits.tokenize(date)),
        tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


class DateReader:
    """Reads dates with a model.

    Args:
        model: A model of `models.RNNSeq2Seq`.
        characters, digits: Tokenizers of its two sides.
    """

    def __init__(self, model, characters, digits):
        self.model, self.characters, self.digits = model, characters, digits

    def read(self, written, strategy=None, batch_size=1_000):
        """Returns the reading of each written date; by default with greedy decoding."""
        options = {"strategy": strategy, "max_length": MAX_LENGTH, "batch_size": batch_size}
        return generate(self.model, written, self.characters, self.digits, **options)

    def exact_match(self, pairs, strategy=None):
        """Returns the fraction of (texts, dates) that are read without any error."""
        written, dates = pairs
        return np.mean([reading == date for reading, date in zip(self.read(written, strategy), dates, strict=True)])


class ExactMatch(keras.callbacks.Callback):
    """Adds the fraction of validation texts that are read without any error to each epoch's logs."""

    def __init__(self, reader, pairs):
        super().__init__()
        self.reader, self.pairs = reader, pairs

    def on_epoch_end(self, epoch, logs=None):
        logs["val_exact_match"] = self.reader.exact_match(self.pairs)


def show(out):
    """Checks the export, loads both saved forms, compares them, prints ten readings and draws the attention."""
    report = serving.check(out)
    print(report)
    vocabularies, samples = (
        json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in ("vocabularies", "samples")
    )
    model = keras.models.load_model(out / "model.keras")
    reader = DateReader(model, Characters(vocabularies["source"]), Characters(vocabularies["target"]))
    readings = reader.read(list(samples))
    served = tf.saved_model.load(str(report.folder)).signatures["serving_default"](source=tf.constant(list(samples)))
    same = [text.decode() for text in served["target"].numpy()] == readings
    print(f"reloaded .keras and SavedModel {'agree' if same else 'DISAGREE'} on all texts")
    for (text, date), reading in zip(samples.items(), readings, strict=True):
        print(f"{text:>40}  ->  {reading}" + ("" if reading == date else f"  (should be {date})"))
    draw_attention(reader, out)


def draw_attention(reader, out):
    """Draws, for a few dates, which written characters each character of the reading came from."""
    for number, (text, reading) in enumerate(zip(DRAWN, reader.read(DRAWN), strict=True), start=1):
        figure = plot.text_attention(reader.model, text, reading, reader.characters, reader.digits)
        figure.savefig(out / f"attention-{number}.png", dpi=120)
    print(f"attention of the decoder: {out / 'attention-*.png'}")


if __name__ == "__main__":
    main()
