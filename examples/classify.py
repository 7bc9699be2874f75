"""Predicts the language of a written date: "jeudi 12 mars 1987" -> fr.

The layers are used in an ordinary Keras model: the author writes the model, `compile` and `fit`. Many dates are written
the same in several languages ("12.3.1987"), so the example also counts the five most probable languages.
"""

import argparse
import json
import pathlib

import quiet

# isort: split

import keras
import numpy as np
import tensorflow as tf
from date_templates import LOCALES
from dates_dataset import load

import keras_attn as ka
from keras_attn import serving
from keras_attn.text import Characters

SHOWN = ["jeudi 12 mars 1987", "Dienstag, 3. September 2041", "среда, 9 мая 1945 г.", "Tuesday, July 4, 1876"]
LANGUAGES = sorted({locale.split("_")[0] for locale in LOCALES})  # "fr" for "fr" and "fr_CA"
DEFAULT_OUT = pathlib.Path(__file__).parent.parent / "savedmodels" / "classify"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="epochs over the dates")
    parser.add_argument("--size", type=int, default=64, help="size of the embeddings and of every block")
    parser.add_argument("--limit", type=int, default=-1, help="number of dates to train on; -1 for all")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="folder for the model")
    parser.add_argument("--data-dir", default=None, help="folder for the data; TFDS' own by default")
    arguments = parser.parse_args(argv)
    keras.utils.set_random_seed(0)

    (texts, labels), (test_texts, test_labels) = (dates(split, arguments) for split in ("train", "test"))
    characters = Characters(sorted(set("".join(texts))))
    model = new_model(characters.vocabulary_size, arguments.size)
    top_5 = keras.metrics.SparseTopKCategoricalAccuracy(5, name="top_5")
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy", top_5])
    model.fit(characters(texts), labels, batch_size=256, epochs=arguments.epochs, verbose=quiet.VERBOSE)
    scores = model.evaluate(characters(test_texts), test_labels, batch_size=256, return_dict=True, verbose=0)
    print(
        f"language of {len(test_texts):,} unseen dates among {len(LANGUAGES)}: correct {scores['accuracy']:.2%}, "
        f"among the five most probable {scores['top_5']:.2%}"
    )
    path = serving.export(model, arguments.out, characters, warmup=SHOWN)
    (arguments.out / "languages.json").write_text(json.dumps(LANGUAGES), encoding="utf-8")
    print(serving.check(path))
    served = tf.saved_model.load(str(path)).signatures["serving_default"](source=tf.constant(SHOWN))
    for text, probabilities in zip(SHOWN, served["languages"].numpy(), strict=True):
        likeliest = np.argsort(-probabilities)[:3]
        print(f"{text:>30}  ->  " + ", ".join(f"{LANGUAGES[i]} {probabilities[i]:.0%}" for i in likeliest))


def dates(split, arguments):
    """Returns the written dates of a split, and the indices of their languages."""
    batches = list(load(split, arguments.data_dir).take(arguments.limit).batch(10_000).as_numpy_iterator())
    texts, locales = ([text.decode() for batch in batches for text in batch[side]] for side in ("source", "locale"))
    return texts, np.array([LANGUAGES.index(locale.split("_")[0]) for locale in locales])


def new_model(num_characters, size):
    """Returns the classifier; padding is masked from the embedding on."""
    ids = keras.Input((None,), dtype="int32", name="characters")
    x = keras.layers.Embedding(num_characters, size, mask_zero=True)(ids)
    x = ka.Sinusoidal()(x)
    x = ka.Encoder(num_layers=2, block=ka.EncoderBlock(num_heads=4, hidden_size=2 * size, residual=ka.PreNorm()))(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(ids, keras.layers.Dense(len(LANGUAGES), activation="softmax", name="languages")(x))


if __name__ == "__main__":
    main()
