"""Says how English words are pronounced: "attention" -> AH T EH N SH AH N.

Trains a Transformer on the CMU Pronouncing Dictionary for as long as wanted: it saves its
place after every epoch, goes on there when started again with the same arguments, and stops
when validation words no longer get better. Then it scores the test words, saves the best
model as `.keras` and as SavedModel, loads both again in a fresh process, compares them, reads
ten test words aloud and draws which letters the decoder looked at for each phoneme.
"""

import argparse
import itertools
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from cmudict_dataset import load
from keras import ops
from vocabulary import START_ID, Vocabulary, pad, teacher_forcing

from keras_attn import PreNorm, decoding, models

matplotlib.use("Agg")
MAX_LENGTH = 30  # the longest pronunciation has 28 phonemes
BUCKETS = [6, 7, 8, 9, 10, 11, 12, 14, 17]  # lengths of the longer side, so that batches hold little padding
DRAWN = ["attention", "transformer", "knowledge", "through"]
BEAMS = decoding.Beam(width=4)
STRATEGIES = {
    "drawn by chance": decoding.Sample(seed=0),
    "greedy": decoding.Greedy(),
    "four beams": BEAMS,
    "four beams, length penalty 0.6": decoding.Beam(width=4, length_penalty=0.6),
}
DEFAULT_OUT = pathlib.Path(__file__).parent.parent / "savedmodels" / "pronounce"


def main(argv=None):
    arguments = parse_arguments(argv)
    if arguments.show:
        return show(arguments.out)
    begin = time.time()
    keras.utils.set_random_seed(arguments.seed)
    backup = arguments.out / "backup"
    goes_on = (backup / "last").exists()
    if goes_on:
        print(f"goes on with the training kept in {backup}; remove that folder to start anew")
    backup.mkdir(parents=True, exist_ok=True)
    train, validation = entries("train", arguments, arguments.limit), entries("validation", arguments, arguments.words)
    test = entries("test", arguments, arguments.limit and max(10, arguments.limit // 9))  # a ninth of the train split
    letters, phonemes = Vocabulary.of(train), Vocabulary.of(itertools.chain.from_iterable(train.values()))
    letters.save(arguments.out / "source_vocabulary.json")
    phonemes.save(arguments.out / "target_vocabulary.json")

    model = new_model(len(letters), len(phonemes), arguments)
    print(
        f"{len(train):,} words to train on, {len(phonemes.tokens)} phonemes, {model.count_params():,} weights, "
        f"ready after {time.time() - begin:.0f} s"
    )
    pronounce = Pronouncer(model, letters, phonemes)
    batches, num_steps = bucketed(train, letters, phonemes, arguments.batch_size)
    callbacks = [  # in this order: figures, what judges them, and last the place to go on from
        ErrorRates(pronounce, validation),
        LastingEarlyStopping(backup, "val_word_error", arguments.patience),
        keras.callbacks.CSVLogger(arguments.out / "history.csv", append=goes_on),
        keras.callbacks.BackupAndRestore(backup / "last", double_checkpoint=True, delete_checkpoint=False),
    ]
    model.fit(batches, epochs=arguments.epochs, steps_per_epoch=num_steps, callbacks=callbacks, shuffle=False)
    for name, strategy in STRATEGIES.items():
        phoneme_error, word_error = error_rates(pronounce(list(test), strategy), test.values())
        print(f"{len(test):,} test words, {name}: phoneme error {phoneme_error:.2%}, word error {word_error:.2%}")

    model.save(arguments.out / "model.keras")
    model.export(arguments.out / "1", verbose=False)
    (arguments.out / "samples.json").write_text(json.dumps(dict(itertools.islice(test.items(), 10))), encoding="utf-8")
    shutil.rmtree(backup)
    subprocess.run([sys.executable, __file__, "--show", "--out", str(arguments.out)], check=True)
    print(f"everything since the start took {time.time() - begin:.0f} s")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60, help="most rounds through the training words")
    parser.add_argument("--patience", type=int, default=8, help="rounds without a better word error before the end")
    parser.add_argument("--layers", type=int, default=3, help="encoder blocks, and as many decoder blocks")
    parser.add_argument("--size", type=int, default=192, help="size of the embeddings and of every block")
    parser.add_argument("--heads", type=int, default=4, help="heads of each attention")
    parser.add_argument("--hidden", type=int, default=768, help="inner size of the feed-forward layers")
    parser.add_argument("--dropout", type=float, default=0.1, help="share of the values dropped in training")
    parser.add_argument("--batch-size", type=int, default=256, help="pronunciations in a batch")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="highest learning rate, after the warm-up")
    parser.add_argument("--warmup", type=int, default=400, help="batches over which the learning rate rises")
    parser.add_argument("--config", choices=["plain", "stress"], default="plain", help="vowels without or with stress")
    parser.add_argument("--words", type=int, default=3_000, help="validation words to score after each round")
    parser.add_argument("--limit", type=int, default=None, help="train on so many words only, to try it")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of the data")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="folder for models, figures and backup")
    parser.add_argument("--data-dir", default=None, help="folder for the data; TFDS' own by default")
    parser.add_argument("--show", action="store_true", help="train nothing: load what --out holds, compare, read, draw")
    return parser.parse_args(argv)


def entries(split, arguments, count=None):
    """Returns a dictionary of the first words of a split, each with its pronunciations: lists of phonemes."""
    words = {}
    dataset = load(split, arguments.config, arguments.data_dir).take(-1 if count is None else count)
    for batch in dataset.ragged_batch(10_000):
        for word, texts in zip(batch["word"].numpy(), batch["pronunciations"].to_list(), strict=True):
            words[word.decode()] = [text.decode().split() for text in texts]
    return words


def new_model(num_letters, num_phonemes, arguments):
    """Returns the compiled Transformer."""
    model = models.Transformer(
        num_letters,
        num_phonemes,
        num_layers=arguments.layers,
        size=arguments.size,
        num_heads=arguments.heads,
        hidden_size=arguments.hidden,
        dropout=arguments.dropout,
        residual=PreNorm(),
    )
    schedule = InverseSquareRoot(arguments.learning_rate, arguments.warmup)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule, beta_2=0.98, clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
        jit_compile=False,  # XLA would compile anew for every pair of lengths
    )
    return model


@keras.saving.register_keras_serializable("pronounce")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Rises in a line to `peak`, then falls with the root of the step.

    A cosine would have to know the last step: with this one a training can be prolonged at will.

    Args:
        peak: The highest learning rate.
        warmup_steps: Number of the step that has it.
    """

    def __init__(self, peak, warmup_steps):
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32") + 1.0
        return self.peak * ops.minimum(step / self.warmup_steps, ops.sqrt(self.warmup_steps / step))

    def get_config(self):
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


def bucketed(words, letters, phonemes, batch_size):
    """Returns endless shuffled batches of similar lengths, padded to their longest, and how many are a round."""
    pairs = [(letters.ids(word), phonemes.ids(p)) for word, known in words.items() for p in known]
    source, target = (tf.ragged.constant(side, dtype="int32") for side in zip(*pairs, strict=True))
    dataset = tf.data.Dataset.from_tensor_slices((source, target)).shuffle(len(pairs)).repeat()
    dataset = dataset.map(
        lambda source, target: (
            {"source": tf.identity(source), "target": tf.concat([[START_ID], target[:-1]], axis=0)},
            tf.identity(target),
        )
    )
    dataset = dataset.bucket_by_sequence_length(
        lambda inputs, labels: tf.maximum(tf.size(inputs["source"]), tf.size(labels)),
        BUCKETS,
        [batch_size] * (len(BUCKETS) + 1),
    )
    return dataset.prefetch(tf.data.AUTOTUNE), math.ceil(len(pairs) / batch_size)


class ErrorRates(keras.callbacks.Callback):
    """Adds the error rates of the validation words to each epoch's figures, and the learning rate."""

    def __init__(self, pronounce, words):
        super().__init__()
        self.pronounce = pronounce
        self.words = words

    def on_epoch_end(self, epoch, logs=None):
        rates = error_rates(self.pronounce(list(self.words), decoding.Greedy()), self.words.values())
        logs["val_phoneme_error"], logs["val_word_error"] = rates
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class LastingEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping that keeps the best weights and its count of epochs on disk, so that both survive a kill."""

    def __init__(self, folder, monitor, patience):
        super().__init__(monitor, mode="min", patience=patience)
        self.weights, self.state = folder / "best.weights.h5", folder / "best.json"

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self.state.exists():
            vars(self).update(json.loads(self.state.read_text()))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if epoch == self.best_epoch:
            draft = self.weights.with_name("draft.weights.h5")
            self.model.save_weights(draft)
            os.replace(draft, self.weights)
        draft = self.state.with_name("draft.json")
        draft.write_text(json.dumps({name: vars(self)[name] for name in ("best", "best_epoch", "wait")}))
        os.replace(draft, self.state)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self.model.load_weights(self.weights)
        print(f"the best of the epochs is number {self.best_epoch + 1}: {self.monitor} {self.best:.4f}")


def error_rates(predictions, references):
    """Returns the phoneme and the word error rate.

    A prediction is compared with that of the word's pronunciations it is nearest to, the
    shorter of two equally near ones; the edits of all words are divided by the phonemes of
    these pronunciations. A word is right if it needs no edit.
    """
    num_edits = num_phonemes = num_wrong = 0
    for prediction, known in zip(predictions, references, strict=True):
        edits, length = min((edit_distance(prediction, reference), len(reference)) for reference in known)
        num_edits, num_phonemes, num_wrong = num_edits + edits, num_phonemes + length, num_wrong + (edits > 0)
    return num_edits / num_phonemes, num_wrong / len(predictions)


def edit_distance(tokens, reference):
    """Returns the least number of insertions, deletions and substitutions that turn one sequence into the other."""
    distances = list(range(len(reference) + 1))  # of no tokens to each beginning of the reference
    for num_tokens, token in enumerate(tokens, start=1):
        diagonal, distances[0] = distances[0], num_tokens
        for i, wanted in enumerate(reference, start=1):
            substituted = diagonal + (token != wanted)
            diagonal = distances[i]
            distances[i] = min(substituted, distances[i] + 1, distances[i - 1] + 1)
    return distances[-1]


class Pronouncer:
    """Pronounces words; by default with four beams."""

    def __init__(self, model, letters, phonemes):
        self.model, self.letters, self.phonemes = model, letters, phonemes

    def __call__(self, words, strategy=BEAMS, batch_size=500):
        # By length, so that short words need not wait for long ones.
        order = sorted(range(len(words)), key=lambda i: len(words[i]))
        pronunciations = [None] * len(words)
        for start in range(0, len(words), batch_size):
            batch = order[start : start + batch_size]
            source = pad([self.letters.ids(words[i]) for i in batch])
            found = self.model.generate(source, strategy, max_length=MAX_LENGTH)
            for i, row in zip(batch, np.array(found.tokens)[:, 0], strict=True):
                pronunciations[i] = self.phonemes.sequence(row)
        return pronunciations


def show(out):
    """Loads both saved forms, compares them, prints ten pronunciations and draws the attention."""
    letters = Vocabulary.load(out / "source_vocabulary.json")
    phonemes = Vocabulary.load(out / "target_vocabulary.json")
    model = keras.models.load_model(out / "model.keras")
    saved_model = tf.saved_model.load(str(out / "1"))
    samples = json.loads((out / "samples.json").read_text(encoding="utf-8"))
    source, target = pad([letters.ids(word) for word in samples]), pad([phonemes.ids(p[0]) for p in samples.values()])
    inputs, _ = teacher_forcing(source, target)
    keras_logits = model(inputs)
    saved_logits = saved_model.serve({name: tf.constant(ids) for name, ids in inputs.items()})
    print(f"reloaded .keras and SavedModel differ by {np.max(np.abs(keras_logits - saved_logits)):.1e} at most")
    pronounce = Pronouncer(model, letters, phonemes)
    for (word, known), reading in zip(samples.items(), pronounce(list(samples)), strict=True):
        wanted = " or ".join(" ".join(reference) for reference in known)
        print(f"{word:>20}  ->  {' '.join(reading)}  {'' if reading in known else f'(should be {wanted})'}")
    draw_attention(model, pronounce, out / "attention.png")


def draw_attention(model, pronounce, path):
    """Draws for a few words which letters each phoneme came from: the last block, the mean of its heads."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    for axis, word, reading in zip(axes.flat, DRAWN, pronounce(DRAWN), strict=True):
        source, target = pad([pronounce.letters.ids(word)]), pad([pronounce.phonemes.ids(reading)])
        inputs, _ = teacher_forcing(source, target)
        scores = np.mean(model.attention_scores(**inputs)[0, -1], axis=0)  # [T, S]
        image = axis.imshow(scores, cmap="magma", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(word) + 1), [*word, "end"], fontsize=11)
        axis.set_yticks(range(len(reading) + 1), [*reading, "end"], fontsize=11)
        axis.set_title(f"{word}  →  {' '.join(reading)}")
        axis.set_xlabel("written")
        axis.set_ylabel("spoken")
    figure.colorbar(image, ax=axes, label="attention score", shrink=0.6)
    figure.savefig(path, dpi=120)
    print(f"where the decoder looked: {path}")


if __name__ == "__main__":
    main()
