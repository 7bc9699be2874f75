"""Trains a Transformer that translates, on one device, on several, or on several machines.

The pairs are a translation set of TensorFlow Datasets, downloaded the first time, or lines of a file, with source and
target separated by a tab. Pairs that cannot be used are dropped, counted and shown. When started again with the same
arguments, the training resumes after the last whole epoch, with the same losses as without the interruption. At the
end, the weights of the last checkpoints are averaged. The averaged model translates the validation texts with beams to
compute BLEU, is saved as `.keras`, and is exported for TF Serving, with text as input and output. A new process checks
the export and compares both files.

On several machines: run the same command on each, with its own `TF_CONFIG` and one `--out` that all of them can access.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import quiet

# isort: split

import devices
import keras
import run_folder
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_attn import PreNorm, data, decoding, models, serving, training
from keras_attn.text import SentencePiece, generate

HELD_OUT = 50  # without a validation file, every fiftieth line of the file is for validation
NUM_SAMPLES = 5
WAIT = 3600  # seconds that the other workers wait for the tokenizers
# Arguments that may change when a training resumes.
NOT_OF_TRAINING = {"epochs", "average", "beams", "bleu_every", "bleu_pairs", "bleu_tokenize", "devices", "data_dir"}
NOT_OF_TRAINING |= {"out", "show"}
DEFAULT_OUT = pathlib.Path(__file__).parent.parent / "savedmodels" / "translate"


def main(argv=None):
    arguments = parse_arguments(argv)
    if arguments.show:
        return show(arguments.out)
    num_workers, worker = devices.place_among_workers()
    # This must come first: workers connect before TensorFlow does anything.
    strategy = devices.new_strategy(arguments.devices, num_workers)
    keras.utils.set_random_seed(arguments.seed)
    keras.config.set_dtype_policy(arguments.policy)
    if arguments.deterministic:
        tf.config.experimental.enable_op_determinism()
    if (arguments.out / run_folder.NAME).exists():
        run_folder.check_arguments(arguments.out, arguments, NOT_OF_TRAINING, what=arguments.out)
    pairs, held_out = pairs_of(arguments)
    tokenizers = kept_tokenizers(arguments.out, lambda: texts_of(pairs), arguments, makes=worker == 0)
    batches, validation = (
        new_batches(each, tokenizers, arguments, strategy.num_replicas_in_sync, verbose=worker == 0)
        for each in (pairs, held_out)
    )
    with strategy.scope():
        model = new_model(tokenizers, arguments)
    checkpoints = training.Checkpoints(arguments.out / "checkpoints", arguments.average)
    first_epoch = checkpoints.restore(model)
    callbacks = []
    if worker == 0:
        run_folder.keep_arguments(arguments.out, arguments)
        data.stats(batches)
        print(f"{model.count_params():,} weights, {strategy.num_replicas_in_sync} replicas, {first_epoch} epochs done")
        texts = [side[: arguments.bleu_pairs] for side in texts_of(held_out)]
        figures = Figures(lambda: bleu(model, tokenizers, texts, arguments).score, arguments.bleu_every)
        history = keras.callbacks.CSVLogger(arguments.out / "history.csv", append=first_epoch > 0)
        callbacks = [figures, history, checkpoints]  # the logs, their writer, and last the checkpoints to resume from
    shares = (each.shard(num_workers, worker) for each in (batches, validation))
    devices.fit(model, strategy, *shares, callbacks, initial_epoch=first_epoch, epochs=arguments.epochs)
    if worker == 0:
        finish(checkpoints.files[-arguments.average :], tokenizers, texts, arguments)


def positive(text):
    """Returns an integer from the command line, which must be at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1. Received: {text!r}")
    return int(text)


def share(text):
    """Returns a number from the command line, which must be in [0, 1)."""
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number in [0, 1). Received: {text!r}")
    return float(text)


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--dataset", default="ted_hrlr_translate/pt_to_en", help="a translation set of TensorFlow Datasets")
    add("--validation-split", default="validation", help="the split of the data set for validation")
    add("--tsv", type=pathlib.Path, help="file of pairs, instead of --dataset")
    add(
        "--validation-tsv",
        type=pathlib.Path,
        help=f"file of pairs for validation; by default every {HELD_OUT}th line of --tsv",
    )
    add("--vocabulary", type=positive, default=8000, help="maximum number of subwords of each language")
    add("--max-length", type=positive, default=128, help="maximum number of subwords of a text, including its end")
    add("--layout", choices=["packed", "bucketed"], default="packed", help="several pairs per row, or one")
    add("--row", type=positive, default=256, help="approximate positions of a packed row on each side")
    add("--buckets", type=positive, default=8, help="number of different lengths of bucketed rows")
    add("--tokens", type=positive, default=8192, help="positions of a batch on each side, of all replicas together")
    add("--epochs", type=positive, default=20, help="epochs over the pairs")
    add("--layers", type=positive, default=4, help="encoder blocks, and as many decoder blocks")
    add("--size", type=positive, default=256, help="size of the embeddings and of every block")
    add("--heads", type=positive, default=4, help="heads of each attention")
    add("--hidden", type=positive, default=1024, help="inner size of the feed-forward layers")
    add("--dropout", type=share, default=0.1, help="fraction of the values dropped in training")
    add("--learning-rate", type=float, default=1e-3, help="highest learning rate, after the warm-up")
    add("--warmup", type=positive, default=2000, help="batches over which the learning rate rises")
    add("--policy", default="mixed_bfloat16", help="dtype policy of the layers")
    add(
        "--average",
        type=positive,
        default=5,
        help="number of last epochs whose checkpoints are kept, and averaged at the end",
    )
    add("--beams", type=positive, default=4, help="beams of translations")
    add("--bleu-every", type=int, default=0, help="epochs between two computations of BLEU; 0 for only at the end")
    add("--bleu-pairs", type=positive, default=2000, help="number of validation pairs for BLEU")
    add("--bleu-tokenize", help="sacrebleu's tokenizer for the target language, such as zh")
    add("--devices", nargs="+", help="devices to train on, such as GPU:0 GPU:1; all GPUs by default")
    add("--deterministic", action="store_true", help="exactly the same losses on GPUs too, but slower")
    add("--seed", type=int, default=0, help="seed of the weights and of the order of the data")
    add("--out", type=pathlib.Path, default=DEFAULT_OUT, help="folder for checkpoints, vocabularies and models")
    add("--data-dir", default=None, help="folder for the data; TFDS' own by default")
    add("--show", action="store_true", help="do not train: check and compare the models in --out")
    return parser.parse_args(argv)


class Lines(data.Tsv):
    """A file of pairs: every `HELD_OUT`-th of its lines, or all others."""

    def __init__(self, path, held_out):
        super().__init__(path)
        self.held_out = held_out

    def read(self, report):
        report = data.Report() if self.held_out else report  # broken lines are reported once
        return (pair for pair in super().read(report) if (pair[0] % HELD_OUT == 0) == self.held_out)


def pairs_of(arguments):
    """Returns the pairs for training and those for validation, as `data.encode` accepts them."""
    if arguments.tsv is None:
        if not quiet.BARS:
            tfds.disable_progress_bar()
        load = {"as_supervised": True, "data_dir": arguments.data_dir}
        return [tfds.load(arguments.dataset, split=split, **load) for split in ("train", arguments.validation_split)]
    if arguments.validation_tsv is None:
        pairs, held_out = (Lines(arguments.tsv, held_out) for held_out in (False, True))
        if not any(True for _ in held_out.read(data.Report())):
            raise ValueError(
                f"Every {HELD_OUT}th line of --tsv is for validation, and none of these is a pair: "
                f"pass --validation-tsv. Received: {arguments.tsv}."
            )
        return pairs, held_out
    return data.Tsv(arguments.tsv), data.Tsv(arguments.validation_tsv)


def texts_of(pairs):
    """Returns the sources and the targets of the complete pairs, two lists of strings."""
    report = data.Report("line")
    if isinstance(pairs, data.Tsv):
        texts = [sides for _, *sides in pairs.read(report)]
    else:
        texts = [[side.decode() for side in sides] for sides in pairs.as_numpy_iterator()]
    whole = [sides for sides in texts if all(side.strip() for side in sides)]
    if not whole:
        report.num_read = report.num_dropped + len(texts)
        raise ValueError(f"There must be at least one pair of two texts in each part of the data. Received: {report}")
    return [list(side) for side in zip(*whole, strict=True)]


def kept_tokenizers(out, texts, arguments, makes):
    """Returns the tokenizers of both sides from a folder; one worker makes them if they do not exist yet."""
    folders = [out / "source", out / "target"]
    if makes and not all(folder.exists() for folder in folders):
        sides = texts()
        run_folder.keep_arguments(out, arguments)  # only after the data could be read
        for folder, side in zip(folders, sides, strict=True):
            if not folder.exists():
                tokenizer = SentencePiece()
                tokenizer.adapt(side, arguments.vocabulary, verbose=0)
                draft = folder.with_suffix(".draft")
                draft.mkdir(exist_ok=True)
                tokenizer.save_assets(draft)
                draft.replace(folder)
    give_up = time.time() + WAIT
    while not all(folder.exists() for folder in folders):
        if time.time() > give_up:
            raise TimeoutError(f"The first worker did not write the tokenizers to {out} within {WAIT} s.")
        time.sleep(1)
    return [SentencePiece(folder / SentencePiece.asset_name, arguments.max_length) for folder in folders]


def new_batches(pairs, tokenizers, arguments, num_replicas, verbose):
    """Returns the batches of pairs in the requested layout; the number of rows is a multiple of the replicas."""
    limit = data.DropLonger(arguments.max_length, arguments.max_length)
    pairs = data.encode(pairs, *tokenizers, limit, int(verbose))
    if arguments.layout == "packed":
        num_rows = max(1, arguments.tokens // arguments.row // num_replicas) * num_replicas
        layout = data.Packed.balanced(pairs, 2 * arguments.row, num_rows)
    else:
        layout = data.Bucketed(data.boundaries(pairs, arguments.buckets), arguments.tokens, num_replicas)
    return data.Batches(pairs, layout, arguments.seed, int(verbose))


def new_model(tokenizers, arguments):
    """Returns the compiled Transformer."""
    model = models.Transformer(
        *(tokenizer.vocabulary_size for tokenizer in tokenizers),
        num_layers=arguments.layers,
        size=arguments.size,
        num_heads=arguments.heads,
        hidden_size=arguments.hidden,
        dropout=arguments.dropout,
        residual=PreNorm(),
    )
    # A schedule without a last batch, so that a training can be extended.
    schedule = training.InverseSquareRoot(arguments.learning_rate, arguments.warmup)
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01, beta_2=0.98, clipnorm=1.0),
        loss=training.MaskedCrossentropy(label_smoothing=0.1),
    )
    model.optimizer.build(model.trainable_variables)  # in the strategy's scope, for the checkpoints
    return model


class Figures(keras.callbacks.Callback):
    """Adds the learning rate to each epoch's logs, and every `bleu_every` epochs the BLEU of the validation texts."""

    def __init__(self, bleu, bleu_every):
        super().__init__()
        self.bleu = bleu
        self.bleu_every = bleu_every

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if self.bleu_every:
            logs["val_bleu"] = float("nan") if (epoch + 1) % self.bleu_every else self.bleu()


def translate(model, tokenizers, texts, arguments, batch_size=64):
    """Returns the translations of texts."""
    options = {"strategy": beams(arguments), "max_length": arguments.max_length, "batch_size": batch_size}
    return generate(model, texts, *tokenizers, verbose=quiet.BARS, **options)


def beams(arguments):
    return decoding.Beam(arguments.beams, length_penalty=0.6)


def bleu(model, tokenizers, texts, arguments):
    """Returns the BLEU of the translations of sources against their references."""
    sources, references = texts
    translations = translate(model, tokenizers, sources, arguments)
    return training.bleu(translations, references, tokenize=arguments.bleu_tokenize)


def finish(checkpoints, tokenizers, texts, arguments):
    """Averages the checkpoints, scores, saves and exports the averaged model, and checks it in a new process."""
    model = new_model(tokenizers, arguments)  # outside of any strategy
    training.average_weights(model, checkpoints)
    found = bleu(model, tokenizers, texts, arguments)
    print(f"{len(checkpoints)} checkpoints averaged: BLEU {found.score:.2f} of {len(texts[0]):,} texts")
    print(found.signature)
    model.save(arguments.out / "model.keras")
    samples = list(zip(*(side[:NUM_SAMPLES] for side in texts), strict=True))
    (arguments.out / "samples.json").write_text(json.dumps(samples, ensure_ascii=False), encoding="utf-8")
    warmup = [source for source, _ in samples]
    path = serving.export(model, arguments.out, *tokenizers, beams(arguments), arguments.max_length, warmup)
    print(f"exported to {path}")
    subprocess.run([sys.executable, __file__, "--show", "--out", str(arguments.out)], check=True)


def show(out):
    """Checks the export, loads both saved forms, compares them and prints a few translations."""
    report = serving.check(out)
    print(report)
    arguments, samples = (
        json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in ("arguments", "samples")
    )
    arguments, sources = argparse.Namespace(**arguments), [source for source, _ in samples]
    tokenizers = kept_tokenizers(out, None, arguments, makes=False)
    translations = translate(keras.models.load_model(out / "model.keras"), tokenizers, sources, arguments)
    signature = tf.saved_model.load(str(report.folder)).signatures["serving_default"]
    served = [text.decode() for text in signature(source=tf.constant(sources))["target"].numpy()]
    print(f"reloaded .keras and SavedModel {'agree' if served == translations else 'DISAGREE'} on all texts")
    for (source, reference), translation in zip(samples, translations, strict=True):
        print(f"{source}\n  ->  {translation}\n      {reference}")


if __name__ == "__main__":
    main()
