"""Fine-tunes a pretrained text encoder from a local folder: written dates to their languages, by LoRA.

    python examples/finetune.py path/to/MiniLM

The folder is one of Hugging Face `transformers` or `sentence-transformers`: config.json, *.safetensors and the
tokenizer. Its matrices stay as they are; low-rank adapters, biases, norms and the new head are trained. The example
saves the model with its adapters merged, exports it for TF Serving and asks the SavedModel. Needs the extras
`examples`, `pretrained` and `serving`.
"""

import argparse
import dataclasses
import pathlib

import quiet

# isort: split

import keras
import numpy as np
import tensorflow as tf
from classify import LANGUAGES, SHOWN, dates

from keras_attn import pretrained, serving

DEFAULT_OUT = pathlib.Path(__file__).parent.parent / "savedmodels" / "finetune"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="folder of the pretrained model")
    parser.add_argument("--epochs", type=int, default=1, help="epochs over the dates")
    parser.add_argument("--limit", type=int, default=20_000, help="number of dates to train on; -1 for all")
    parser.add_argument("--rank", type=int, default=8, help="rank of the adapters")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="folder for the model")
    parser.add_argument("--data-dir", default=None, help="folder for the data; TFDS' own by default")
    arguments = parser.parse_args(argv)
    keras.utils.set_random_seed(0)

    loaded = pretrained.load(
        arguments.folder, "classification", max_length=64, num_labels=len(LANGUAGES), verbose=quiet.VERBOSE
    )
    loaded = dataclasses.replace(loaded, labels=tuple(LANGUAGES))
    model = loaded.model
    add_adapters(model.get_layer("encoder"), arguments.rank)
    model.get_layer("source_embedding").trainable = False
    trained = sum(weight.shape.num_elements() for weight in model.trainable_weights)
    print(f"{loaded.family}: {model.count_params():,} parameters, {trained:,} of them trained")

    (texts, labels), (test_texts, test_labels) = (dates(split, arguments) for split in ("train", "test"))
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(5, name="top_5")],
    )
    read = loaded.source_text
    model.fit({"source": read(texts)}, labels, batch_size=64, epochs=arguments.epochs, verbose=quiet.VERBOSE)
    scores = model.evaluate({"source": read(test_texts)}, test_labels, batch_size=256, return_dict=True, verbose=0)
    print(
        f"language of {len(test_texts):,} unseen dates among {len(LANGUAGES)}: correct {scores['accuracy']:.2%}, "
        f"among the five most probable {scores['top_5']:.2%}"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    model.save(arguments.out / "model.keras")  # merges the adapters, so load it with `compile=False`
    path = serving.export(loaded, arguments.out, warmup=SHOWN)
    print(serving.check(path))
    served = tf.saved_model.load(str(path)).signatures["serving_default"](text=tf.constant(SHOWN))
    for text, row in zip(SHOWN, served["scores"].numpy(), strict=True):
        print(f"{text:>30}  ->  " + ", ".join(f"{LANGUAGES[i]} {row[i]:.0%}" for i in np.argsort(-row)[:3]))


def add_adapters(layer, rank):
    """Adds a low-rank adapter to every linear map inside a layer."""
    for each in layer._flatten_layers():
        if isinstance(each, keras.layers.Dense):
            each.enable_lora(rank)


if __name__ == "__main__":
    main()
