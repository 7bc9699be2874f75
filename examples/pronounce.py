"""Predicts how English words are pronounced: "attention" -> AH T EH N SH AH N.

Trains a Transformer (or, with `--model rnn`, a recurrent encoder-decoder) on the CMU Pronouncing
Dictionary. It saves the training after every epoch, and resumes it when started again with the
same arguments. Then it scores the test words, saves the model as `.keras` and exports it for TF
Serving, from a word to phonemes. A new process checks the export, loads and compares both files,
prints ten test words, and draws which letters the decoder attended to for each phoneme.
"""

import argparse
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import time

import quiet

# isort: split

import keras
import numpy as np
import run_folder
import tensorflow as tf
from cmudict_dataset import load
from keras import ops
from keras.quantizers import Int8QuantizationConfig

from keras_attn import PreNorm, data, decoding, models, plot, serving, training
from keras_attn.text import Characters, Words, generate

MAX_LENGTH = 30  # the longest pronunciation has 28 phonemes
DRAWN = ["attention", "transformer", "knowledge", "through"]
BEAMS = decoding.Beam(width=4)
STRATEGIES = {
    "sampled": decoding.Sample(seed=0),
    "greedy": decoding.Greedy(),
    "four beams": BEAMS,
    "four beams, length penalty 0.6": decoding.Beam(width=4, length_penalty=0.6),
}
MAY_CHANGE = {"words", "out", "data_dir", "show"}  # when a training resumes
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
        run_folder.check_arguments(arguments.out, arguments, MAY_CHANGE, what=backup)
        print(f"resuming the training in {backup}; remove that folder to start again")
    train, validation = entries("train", arguments, arguments.limit), entries("validation", arguments, arguments.words)
    test = entries("test", arguments, arguments.limit and max(10, arguments.limit // 9))  # a ninth of the train split
    letters, phonemes = Characters(sorted(set("".join(train))), lowercase=True), Words()
    phonemes.adapt([text for known in train.values() for text in known], verbose=0)

    pairs = data.encode([(word, text) for word, known in train.items() for text in known], letters, phonemes)
    batches = data.Batches(pairs, data.Bucketed(data.boundaries(pairs, 10), arguments.tokens), arguments.seed)
    sizes = letters.vocabulary_size, phonemes.vocabulary_size
    model = compiled(new_model(*sizes, arguments), len(batches) * arguments.epochs, arguments)
    if arguments.start is not None:
        copy_weights(keras.models.load_model(arguments.start), model)
    print(
        f"{len(train):,} words to train on, {len(phonemes.tokens)} phonemes, {model.count_params():,} weights, "
        f"ready after {time.time() - begin:.0f} s"
    )
    backup.mkdir(parents=True, exist_ok=True)
    run_folder.keep_arguments(arguments.out, arguments)
    (arguments.out / "figures.json").unlink(missing_ok=True)  # of an earlier training
    pronounce = Pronouncer(model, letters, phonemes)
    follow = data.FollowEpochs(batches)
    callbacks = [  # in this order: the logs, their writer, and last the backup to resume from
        follow,
        ErrorRates(pronounce, validation),
        keras.callbacks.CSVLogger(arguments.out / "history.csv", append=goes_on),
        keras.callbacks.BackupAndRestore(backup / "last", double_checkpoint=True, delete_checkpoint=False),
    ]
    model.fit(follow.dataset, epochs=arguments.epochs, callbacks=callbacks, shuffle=False, verbose=quiet.VERBOSE)
    figures = {"words": len(test), "weights": model.count_params(), "word_error": {}}
    model = pronounce.model = to_serve(model, *sizes, arguments)
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
    parser.add_argument("--epochs", type=int, default=16, help="epochs over the training words")
    parser.add_argument("--model", choices=["transformer", "rnn"], default="transformer", help="recipe to train")
    parser.add_argument("--layers", type=int, default=4, help="encoder blocks, and as many decoder blocks")
    parser.add_argument("--size", type=int, default=256, help="size of the embeddings and of every block")
    parser.add_argument("--heads", type=int, default=4, help="heads of each attention")
    parser.add_argument("--hidden", type=int, default=768, help="inner size of the feed-forward layers")
    parser.add_argument("--dropout", type=float, default=0.1, help="fraction of the values dropped in training")
    parser.add_argument("--tokens", type=int, default=2560, help="positions of a batch on each side")
    parser.add_argument("--learning-rate", type=float, default=1.2e-3, help="highest learning rate, after the warm-up")
    parser.add_argument("--warmup", type=int, default=1000, help="batches over which the learning rate rises")
    parser.add_argument("--policy", default="mixed_bfloat16", help="dtype policy of the layers")
    parser.add_argument("--config", choices=["plain", "stress"], default="plain", help="vowels without or with stress")
    parser.add_argument("--words", type=int, default=3_000, help="validation words to score after each epoch")
    parser.add_argument("--limit", type=int, default=None, help="number of words to train on, for a quick try")
    parser.add_argument("--start", type=pathlib.Path, help="model.keras of the same sizes whose weights to start from")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the order of the data")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="folder for models, figures and backup")
    parser.add_argument("--data-dir", default=None, help="folder for the data; TFDS' own by default")
    parser.add_argument(
        "--show", action="store_true", help="do not train: load the models in --out, compare, read, draw"
    )
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
    """Returns the trained model for serving: in float32, with matrices of 8-bit integers.

    In half precision the last digits of an answer would depend on the other texts of its batch.
    """
    keras.config.set_dtype_policy("float32")
    served = new_model(num_letters, num_phonemes, arguments)
    served.set_weights(model.get_weights())
    served.quantize("int8", config=Int8QuantizationConfig(activation_quantizer=None))
    return served


def copy_weights(source, model):
    """Copies the weights of a model from `to_serve` into one that trains: integers divided by their scales."""
    pairs = zip(source._flatten_layers(include_self=False), model._flatten_layers(include_self=False), strict=True)
    for theirs, ours in pairs:
        if isinstance(theirs, keras.layers.Dense):
            ours.kernel.assign(ops.cast(theirs.kernel, "float32") / theirs.kernel_scale)
            if ours.bias is not None:
                ours.bias.assign(theirs.bias)
        elif isinstance(theirs, keras.layers.Embedding):
            ours.embeddings.assign(ops.cast(theirs.embeddings, "float32") / theirs.embeddings_scale[:, None])
        else:
            for value, weight in zip(own_weights(theirs), own_weights(ours), strict=True):
                weight.assign(value)


def own_weights(layer):
    """Returns the weights of a layer without those of its sublayers."""
    of_parts = {id(weight) for part in layer._flatten_layers(include_self=False) for weight in part.weights}
    return [weight for weight in layer.weights if id(weight) not in of_parts]


def compiled(model, num_steps, arguments):
    """Returns the model, compiled for `num_steps` steps of training."""
    schedule = training.LinearDecay(arguments.learning_rate, min(arguments.warmup, num_steps), num_steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01, beta_2=0.98, clipnorm=1.0),
        loss=training.MaskedCrossentropy(label_smoothing=0.1),
        jit_compile=False,  # XLA would compile again for every pair of lengths
    )
    return model


class ErrorRates(keras.callbacks.Callback):
    """Adds the error rates of the validation words, the learning rate and the seconds to each epoch's logs."""

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

    A prediction is compared with the nearest pronunciation of the word, the shorter of two
    that are equally near. The edits of all words are divided by the phonemes of these
    pronunciations. A word is correct if it needs no edit.
    """
    words = np.repeat(range(len(predictions)), [len(known) for known in references])
    spoken = tf.strings.split([predictions[word] for word in words])
    known = tf.strings.split(list(itertools.chain.from_iterable(references)))
    edits = tf.edit_distance(spoken.to_sparse(), known.to_sparse(), normalize=False).numpy()
    lengths = known.row_lengths().numpy()
    order = np.lexsort((lengths, edits, words))  # by word, the nearest pronunciation first
    nearest = order[np.unique(words[order], return_index=True)[1]]
    return edits[nearest].sum() / lengths[nearest].sum(), np.mean(edits[nearest] > 0)


class Pronouncer:
    """Pronounces words; by default with four beams."""

    def __init__(self, model, letters, phonemes):
        self.model, self.letters, self.phonemes = model, letters, phonemes

    def __call__(self, words, strategy=BEAMS, batch_size=500):
        options = {"strategy": strategy, "max_length": MAX_LENGTH, "batch_size": batch_size}
        return generate(self.model, words, self.letters, self.phonemes, **options)


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
        print(f"{word:>20}  ->  {reading}" + ("" if reading in known else f"  (should be {wanted})"))
    draw_attention(pronounce, out)


def draw_attention(pronounce, out):
    """Draws, for a few words, which letters each phoneme came from: the mean of the heads of the last block."""
    for word, reading in zip(DRAWN, pronounce(DRAWN), strict=True):
        figure = plot.text_attention(pronounce.model, word, reading, pronounce.letters, pronounce.phonemes)
        figure.savefig(out / f"attention-{word}.png", dpi=120)
    print(f"attention of the decoder: {out / 'attention-*.png'}")


if __name__ == "__main__":
    main()
