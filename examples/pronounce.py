"""Says how English words are pronounced: "attention" -> AH T EH N SH AH N.

Trains a Transformer (or, with `--model rnn`, a recurrent encoder-decoder) on the CMU Pronouncing
Dictionary; it saves its place after every epoch and goes on there when started again with the
same arguments. Then it scores the test words, saves the model as `.keras` and exports it for TF
Serving, a word in and phonemes out. A fresh process
checks the export, loads both again, compares them, reads ten test words aloud and draws which
letters the decoder looked at for each phoneme.
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
from keras.quantizers import Int8QuantizationConfig

from keras_attn import PreNorm, decoding, models, serving, training
from keras_attn.special_ids import START_ID
from keras_attn.text import Characters, Words

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
    keras.config.set_dtype_policy(arguments.policy)
    backup = arguments.out / "backup"
    goes_on = (backup / "last").exists()
    if goes_on:
        print(f"goes on with the training kept in {backup}; remove that folder to start anew")
    backup.mkdir(parents=True, exist_ok=True)
    train, validation = entries("train", arguments, arguments.limit), entries("validation", arguments, arguments.words)
    test = entries("test", arguments, arguments.limit and max(10, arguments.limit // 9))  # a ninth of the train split
    letters, phonemes = Characters(sorted(set("".join(train))), lowercase=True), Words()
    phonemes.adapt([text for known in train.values() for text in known], verbose=0)

    pairs = [(word, text) for word, known in train.items() for text in known]
    num_steps = math.ceil(len(pairs) / arguments.batch_size)
    sizes = letters.vocabulary_size, phonemes.vocabulary_size
    model = compiled(new_model(*sizes, arguments), num_steps * arguments.epochs, arguments)
    print(
        f"{len(train):,} words to train on, {len(phonemes.tokens)} phonemes, {model.count_params():,} weights, "
        f"ready after {time.time() - begin:.0f} s"
    )
    pronounce = Pronouncer(model, letters, phonemes)
    callbacks = [  # in this order: figures, what writes them, and last the place to go on from
        ErrorRates(pronounce, validation),
        keras.callbacks.CSVLogger(arguments.out / "history.csv", append=goes_on),
        keras.callbacks.BackupAndRestore(backup / "last", double_checkpoint=True, delete_checkpoint=False),
    ]
    batches = bucketed(pairs, letters, phonemes, arguments.batch_size)
    model.fit(batches, epochs=arguments.epochs, steps_per_epoch=num_steps, callbacks=callbacks, shuffle=False)
    model = pronounce.model = to_serve(model, *sizes, arguments)
    figures = {"words": len(test), "weights": model.count_params(), "word_error": {}}
    for name, strategy in STRATEGIES.items():
        phoneme_error, word_error = error_rates(pronounce(list(test), strategy), test.values())
        print(f"{len(test):,} test words, {name}: phoneme error {phoneme_error:.2%}, word error {word_error:.2%}")
        figures["word_error"][name] = word_error

    model.save(arguments.out / "model.keras")
    vocabularies = {"source": letters.tokens, "target": phonemes.tokens}
    samples = dict(itertools.islice(test.items(), 10))
    for name, value in (("vocabularies", vocabularies), ("samples", samples), ("figures", figures)):
        (arguments.out / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    path = serving.export(model, arguments.out, letters, phonemes, BEAMS, max_length=MAX_LENGTH, warmup=DRAWN)
    print(f"exported to {path}")
    shutil.rmtree(backup)
    subprocess.run([sys.executable, __file__, "--show", "--out", str(arguments.out)], check=True)
    print(f"everything since the start took {time.time() - begin:.0f} s")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=24, help="rounds through the training words")
    parser.add_argument("--model", choices=["transformer", "rnn"], default="transformer", help="which recipe")
    parser.add_argument("--layers", type=int, default=4, help="encoder blocks, and as many decoder blocks")
    parser.add_argument("--size", type=int, default=256, help="size of the embeddings and of every block")
    parser.add_argument("--heads", type=int, default=4, help="heads of each attention")
    parser.add_argument("--hidden", type=int, default=768, help="inner size of the feed-forward layers")
    parser.add_argument("--dropout", type=float, default=0.15, help="share of the values dropped in training")
    parser.add_argument("--batch-size", type=int, default=256, help="pronunciations in a batch")
    parser.add_argument("--learning-rate", type=float, default=1.2e-3, help="highest learning rate, after the warm-up")
    parser.add_argument("--warmup", type=int, default=1000, help="batches over which the learning rate rises")
    parser.add_argument("--policy", default="mixed_bfloat16", help="dtype policy of the layers")
    parser.add_argument("--config", choices=["plain", "stress"], default="plain", help="vowels without or with stress")
    parser.add_argument("--words", type=int, default=3_000, help="validation words to score after each round")
    parser.add_argument("--limit", type=int, default=None, help="train on so many words only, to try it")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of the data")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="folder for models, figures and backup")
    parser.add_argument("--data-dir", default=None, help="folder for the data; TFDS' own by default")
    parser.add_argument("--show", action="store_true", help="train nothing: load what --out holds, compare, read, draw")
    return parser.parse_args(argv)


def entries(split, arguments, count=None):
    """Returns a dictionary of the first words of a split, each with its pronunciations: phonemes between spaces."""
    words = {}
    dataset = load(split, arguments.config, arguments.data_dir).take(-1 if count is None else count)
    for batch in dataset.ragged_batch(10_000):
        for word, texts in zip(batch["word"].numpy(), batch["pronunciations"].to_list(), strict=True):
            words[word.decode()] = [text.decode() for text in texts]
    return words


def new_model(num_letters, num_phonemes, arguments):
    """Returns the untrained model."""
    if arguments.model == "rnn":
        return models.RNNSeq2Seq(num_letters, num_phonemes, arguments.size, dropout=arguments.dropout)
    return models.Transformer(
        num_letters,
        num_phonemes,
        num_layers=arguments.layers,
        size=arguments.size,
        num_heads=arguments.heads,
        hidden_size=arguments.hidden,
        dropout=arguments.dropout,
        residual=PreNorm(),
    )


def to_serve(model, num_letters, num_phonemes, arguments):
    """Returns the trained model as it ships: in float32, its matrices kept as 8-bit integers.

    In half precision an answer would depend, in its last digits, on the texts it was batched with.
    """
    keras.config.set_dtype_policy("float32")
    served = new_model(num_letters, num_phonemes, arguments)
    served.set_weights(model.get_weights())
    served.quantize("int8", config=Int8QuantizationConfig(activation_quantizer=None))
    return served


def compiled(model, num_steps, arguments):
    """Returns the model, ready for so many steps of training."""
    schedule = training.LinearDecay(arguments.learning_rate, min(arguments.warmup, num_steps), num_steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01, beta_2=0.98, clipnorm=1.0),
        loss=training.MaskedCrossentropy(label_smoothing=0.1),
        jit_compile=False,  # XLA would compile anew for every pair of lengths
    )
    return model


def bucketed(pairs, letters, phonemes, batch_size):
    """Returns endless shuffled batches of similar lengths, padded to their longest."""
    lengths = [max(len(word), len(text.split())) for word, text in pairs]
    dataset = tf.data.Dataset.from_tensor_slices((*map(list, zip(*pairs, strict=True)), lengths))
    dataset = dataset.shuffle(len(pairs)).repeat()
    dataset = dataset.bucket_by_sequence_length(
        lambda word, text, length: length + 1, BUCKETS, [batch_size] * (len(BUCKETS) + 1)
    )
    return dataset.map(
        lambda word, text, length: teacher_forcing(letters.tokenize(word), phonemes.tokenize(text)), tf.data.AUTOTUNE
    ).prefetch(tf.data.AUTOTUNE)


def teacher_forcing(source, target):
    """Returns inputs and labels of ids: each target token is read before the next is asked for."""
    starts = tf.ones_like(target[:, :1]) * START_ID
    read = tf.where(target > 0, tf.concat([starts, target[:, :-1]], axis=1), 0)
    return {"source": source, "target": read}, target


class ErrorRates(keras.callbacks.Callback):
    """Adds the error rates of the validation words to each epoch's figures, the learning rate and the seconds."""

    def __init__(self, pronounce, words):
        super().__init__()
        self.pronounce = pronounce
        self.words = words

    def on_epoch_begin(self, epoch, logs=None):
        self.begin = time.time()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.time() - self.begin
        rates = error_rates(self.pronounce(list(self.words), decoding.Greedy()), self.words.values())
        logs["val_phoneme_error"], logs["val_word_error"] = rates
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)


def error_rates(predictions, references):
    """Returns the phoneme and the word error rate.

    A prediction is compared with that of the word's pronunciations it is nearest to, the
    shorter of two equally near ones; the edits of all words are divided by the phonemes of
    these pronunciations. A word is right if it needs no edit.
    """
    num_edits = num_phonemes = num_wrong = 0
    for prediction, known in zip(predictions, references, strict=True):
        edits, length = min(
            (edit_distance(prediction.split(), reference.split()), len(reference.split())) for reference in known
        )
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
            found = self.model.generate(self.letters.tokenize([words[i] for i in batch]), strategy, MAX_LENGTH)
            for i, text in zip(batch, self.phonemes.detokenize(found.tokens[:, 0]).numpy(), strict=True):
                pronunciations[i] = text.decode()
        return pronunciations


def show(out):
    """Checks the export, loads both saved forms, compares them, prints ten pronunciations, draws the attention."""
    report = serving.check(out)
    print(report)
    vocabularies, samples = (
        json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in ("vocabularies", "samples")
    )
    model = keras.models.load_model(out / "model.keras")
    pronounce = Pronouncer(model, Characters(vocabularies["source"], lowercase=True), Words(vocabularies["target"]))
    readings = pronounce(list(samples))
    served = tf.saved_model.load(str(report.folder)).signatures["serving_default"](source=tf.constant(list(samples)))
    same = [text.decode() for text in served["target"].numpy()] == readings
    print(f"reloaded .keras and SavedModel {'agree' if same else 'DISAGREE'} on all words")
    for (word, known), reading in zip(samples.items(), readings, strict=True):
        wanted = " or ".join(known)
        print(f"{word:>20}  ->  {reading}  {'' if reading in known else f'(should be {wanted})'}")
    draw_attention(model, pronounce, out / "attention.png")


def draw_attention(model, pronounce, path):
    """Draws for a few words which letters each phoneme came from: in the last block, the mean of its heads."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    for axis, word, reading in zip(axes.flat, DRAWN, pronounce(DRAWN), strict=True):
        inputs, _ = teacher_forcing(pronounce.letters.tokenize([word]), pronounce.phonemes.tokenize([reading]))
        spoken = reading.split()
        scores = np.array(model.attention_scores(**inputs)[0], "float32")
        scores = scores if scores.ndim == 2 else scores[-1].mean(axis=0)  # [T, S]
        image = axis.imshow(scores, cmap="magma", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(word) + 1), [*word, "end"], fontsize=11)
        axis.set_yticks(range(len(spoken) + 1), [*spoken, "end"], fontsize=11)
        axis.set_title(f"{word}  →  {reading}")
        axis.set_xlabel("written")
        axis.set_ylabel("spoken")
    figure.colorbar(image, ax=axes, label="attention score", shrink=0.6)
    figure.savefig(path, dpi=120)
    print(f"where the decoder looked: {path}")


if __name__ == "__main__":
    main()
