"""Tokens per second of generation with ours, KerasHub and CTranslate2, each case in a separate process.

Encoder and decoder have six layers of 512, feed-forward 2,048, 8 heads, 8,000 words, random
weights; sources have 25 tokens. The end id is banned, so all generate the same number of tokens.
Prints a table with the ratios of the rates to KerasHub with XLA and to CTranslate2's 8-bit weights
(above 1 is faster); the seconds to the first token, which are those of the first call, tracing and
compilation included, without the later tokens, and their ratio to KerasHub in the same mode (below 1
is faster); the peak memory; and the fraction of the machine's measured limit ("roof"): matrix
products for a batch of 32, reading the weights in float32 from memory for a batch of 1. All ratios are
within one run. A library that is not installed (`keras-hub`, `ctranslate2`) is left out, with a
line that says so.

    python benchmarks/decoding.py --batch 32 --beams 1 --length 200
    python benchmarks/decoding.py --cache      # cost of a token for caches of different sizes
"""

import argparse
import itertools
import json
import os
import pathlib
import tempfile
import time

from measuring import best_of, is_installed, peak_megabytes, product_rate, ratio, run, shown, stream_rate, write_figures

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
WORDS, SIZE, HIDDEN, HEADS, LAYERS, SOURCE_LENGTH = 8000, 512, 2048, 8, 6, 25
PEERS = {
    "keras-hub-xla": "keras_hub",
    "keras-hub-graph": "keras_hub",
    "keras-hub-xla-bfloat16": "keras_hub",
    "ctranslate2": "ctranslate2",
    "ctranslate2-int8": "ctranslate2",
}
OURS = ("graph", "xla", "graph-bfloat16", "xla-bfloat16", "graph-int8-cache")
DEFAULTS = {  # what is measured by default, for rows and beams
    (32, 1): ("keras-hub-xla", "keras-hub-graph", "ctranslate2", "ctranslate2-int8", "graph", "xla", "graph-bfloat16"),
    (32, 4): ("keras-hub-xla", "ctranslate2-int8", "graph", "graph-bfloat16"),
    (1, 1): ("keras-hub-xla", "ctranslate2", "ctranslate2-int8", *OURS[:4]),
}
SAME_MODE = {  # whose first token each is compared with
    "graph": "keras-hub-graph",
    "graph-bfloat16": "keras-hub-graph",
    "graph-int8-cache": "keras-hub-graph",
    "xla": "keras-hub-xla",
    "xla-bfloat16": "keras-hub-xla",
}
END = 2
# The weights that a decoder reads for each token: projections, feed-forward, logits.
WEIGHTS = LAYERS * (8 * SIZE**2 - 2 * SIZE**2 + 2 * SIZE * HIDDEN) + SIZE * WORDS


def main():
    arguments = parse_arguments()
    if arguments.one:
        print(json.dumps(measure(**json.loads(arguments.one))))
        return
    write_figures(arguments.out, cache_cost() if arguments.cache else compare(arguments))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--who", nargs="+", default=None, choices=[*PEERS, *OURS], help="what to measure")
    parser.add_argument("--batch", type=int, nargs="+", default=None, help="rows; by default 32 and 1")
    parser.add_argument(
        "--beams", type=int, nargs="+", default=None, help="1 is greedy; by default 1, and 4 of 32 rows"
    )
    parser.add_argument("--length", type=int, nargs="+", default=[25], help="generated tokens")
    parser.add_argument(
        "--cache", action="store_true", help="measure the cost of a token for caches of different sizes instead"
    )
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def settings(arguments):
    """Returns the cases to measure: numbers of rows, beams and generated tokens, and who generates them."""
    pairs = [*DEFAULTS]
    if arguments.batch or arguments.beams:
        pairs = [*itertools.product(arguments.batch or [32, 1], arguments.beams or [1, 4])]
    return [
        (*pair, length, arguments.who or DEFAULTS.get(pair, [*PEERS, *OURS]))
        for length, pair in itertools.product(arguments.length, pairs)
    ]


def compare(arguments):
    """Measures all requested cases and prints them as a table."""
    roof = run(__file__, who="roof", batch=0, beams=0, length=0)
    print(f"this machine: {roof['products'] / 1e9:.0f} GFLOP/s in float32, {roof['stream'] / 1e9:.1f} GB/s from memory")
    print(
        f"{'batch':>5} {'beams':>5} {'length':>6} {'who':>22} {'tokens/s':>9} {'ratio':>6} {'to int8':>7} "
        f"{'first token s':>13} {'ratio':>6} {'MB':>6} {'roof':>5}"
    )
    rows = []
    for batch, beams, length, asked in settings(arguments):
        case = {"batch": batch, "beams": beams, "length": length}
        there = [who for who in asked if is_installed(PEERS.get(who, "keras"))]
        found = {who: {**case, "who": who, **run(__file__, who=who, **case)} for who in there}
        for who in asked:
            if who in found:
                add_ratios(found[who], found, roof)
                print(line(found[who]), flush=True)
            else:
                print(f"{batch:5} {beams:5} {length:6} {who:>22}  left out: {PEERS[who]} is not installed")
        rows += found.values()
    return rows


def add_ratios(row, found, roof):
    """Adds the ratios of a row to its peers, which are in `found` by name, and to the limit of the machine."""
    row["ratio"] = ratio(row["rate"], found.get("keras-hub-xla", {}).get("rate"))
    row["int8_ratio"] = ratio(row["rate"], found.get("ctranslate2-int8", {}).get("rate"))
    row["first_ratio"] = ratio(row["first"], found.get(SAME_MODE.get(row["who"]), {}).get("first"))
    # A token costs two operations per weight, and a step reads each weight once.
    work = 2 * WEIGHTS * row["rate"] * row["beams"] / roof["products"]
    row["roof"] = work if row["batch"] > 1 else 4 * WEIGHTS * row["rate"] / row["batch"] / roof["stream"]


def line(row):
    """Returns a row of figures as a line of the table."""
    return (
        f"{row['batch']:5} {row['beams']:5} {row['length']:6} {row['who']:>22} {row['rate']:9.0f} "
        f"{shown(row['ratio']):>6} {shown(row['int8_ratio']):>7} {row['first']:13.2f} {shown(row['first_ratio']):>6} "
        f"{row['megabytes']:6.0f} {row['roof']:5.0%}"
    )


def cache_cost():
    """Prints the time of a token for caches of increasing size, of which only 25 positions are used."""
    rows = []
    for who in ("graph", "xla", "graph-int8-cache"):
        for capacity in (32, 128, 512, 2048):
            row = run(__file__, who=who, batch=8, beams=1, length=25, capacity=capacity)
            rows.append({"who": who, "capacity": capacity, **row})
            print(f"{who:>18}: cache of {capacity:5} positions, {8e3 / row['rate']:6.2f} ms per step", flush=True)
    return rows


def measure(who, batch, beams, length, capacity=None):
    """Returns tokens per second, the seconds to the first token, and the peak memory above the memory before them."""
    if who == "roof":
        return {"products": product_rate(), "stream": stream_rate()}
    makers = {"keras_hub": hub_call, "ctranslate2": ctranslate2_call}
    call = makers.get(PEERS.get(who), our_call)(who, batch, beams, length, *([] if capacity is None else [capacity]))
    before, begin = peak_megabytes(), time.perf_counter()
    call()
    first = time.perf_counter() - begin
    seconds = best_of(call, repeats=2, seconds=1.0)
    return {
        "rate": batch * length / seconds,
        "first": first - seconds * (length - 1) / length,
        "megabytes": peak_megabytes() - before,
    }


def sources(batch):
    """Returns random source ids `[batch, SOURCE_LENGTH]`."""
    import numpy as np

    return np.random.default_rng(1).integers(4, WORDS, (batch, SOURCE_LENGTH))


def our_call(who, batch, beams, length, capacity=None):
    """Returns a function that generates once with our model."""
    import keras
    import numpy as np

    from keras_attn import PreNorm, cache, decoding, models

    keras.config.set_dtype_policy("bfloat16" if who.endswith("bfloat16") else "float32")
    model = models.Transformer(WORDS, WORDS, LAYERS, SIZE, HEADS, HIDDEN, residual=PreNorm())
    source, banned = sources(batch), [decoding.BannedTokens([0, END])]
    strategy = decoding.Greedy() if beams == 1 else decoding.Beam(beams)
    named = {"cache": cache.Int8Cache()} if "int8" in who else {}
    if capacity is not None:  # a larger cache, in which all rows end after `length` tokens
        strategy, banned = StopAfter(length), []
        named["max_length"] = capacity
    named = {"max_length": length, **named}
    return lambda: np.array(
        model.generate(source, strategy, processors=banned, jit_compile=who.startswith("xla"), **named).tokens
    )


def hub_call(who, batch, beams, length):
    """Returns a function that generates once with KerasHub's layers, cache and samplers, as its own models do."""
    import keras
    import keras_hub
    import numpy as np
    import tensorflow as tf
    from keras import layers, ops

    dtype = "bfloat16" if who.endswith("bfloat16") else "float32"
    keras.config.set_dtype_policy(dtype)
    embedding = keras_hub.layers.TokenAndPositionEmbedding(WORDS, max(SOURCE_LENGTH, length + 1), SIZE)
    encoder = [keras_hub.layers.TransformerEncoder(HIDDEN, HEADS, normalize_first=True) for _ in range(LAYERS)]
    decoder = [keras_hub.layers.TransformerDecoder(HIDDEN, HEADS, normalize_first=True) for _ in range(LAYERS)]
    projection = layers.Dense(WORDS)
    memory = embedding(np.zeros((1, SOURCE_LENGTH), "int32"))
    for layer in encoder:
        memory = layer(memory)
    outputs = embedding(np.zeros((1, length), "int32"))
    for layer in decoder:
        outputs = layer(outputs, memory)
    projection(outputs)
    sampler = keras_hub.samplers.GreedySampler() if beams == 1 else keras_hub.samplers.BeamSampler(num_beams=beams)

    def generate(source):
        memory = embedding(source)
        for layer in encoder:
            memory = layer(memory)
        shape = (batch, LAYERS, 2, length + 1, HEADS, SIZE // HEADS)
        own, read = ops.zeros(shape, dtype), ops.zeros((*shape[:3], SOURCE_LENGTH, *shape[4:]), dtype)
        first, filled = embedding(ops.ones((batch, 1), "int32")), []
        for number, layer in enumerate(decoder):  # the memory's keys and values, once
            filled.append(decode(layer, first, memory, own[:, number], 0, read[:, number], 0)[2])
        memory = ops.repeat(memory, beams, axis=0)

        def following(prompt, cache, index):
            own, read = cache
            x = embedding(ops.slice(prompt, [0, index - 1], [ops.shape(prompt)[0], 1]), start_index=index - 1)
            written = []
            for number, layer in enumerate(decoder):
                x, new, _ = decode(layer, x, memory, own[:, number], index - 1, read[:, number], None)
                written.append(new)
            return projection(x)[:, 0], None, (ops.stack(written, axis=1), read)

        prompt = ops.ones((batch, length + 1), "int32")
        return sampler(
            next=following, prompt=prompt, cache=(own, ops.stack(filled, axis=1)), index=1, stop_token_ids=None
        )

    def decode(layer, x, memory, own, index, read, read_index):
        return layer(
            decoder_sequence=x,
            encoder_sequence=memory,
            self_attention_cache=own,
            self_attention_cache_update_index=index,
            cross_attention_cache=read,
            cross_attention_cache_update_index=read_index,
        )

    compiled = tf.function(generate, jit_compile="xla" in who, autograph=False)
    source = tf.constant(sources(batch), tf.int32)
    return lambda: np.array(compiled(source))


def ctranslate2_call(who, batch, beams, length):
    """Returns a function that generates once with CTranslate2, with random weights of the same architecture."""
    import ctranslate2
    import numpy as np
    from ctranslate2.specs import TransformerSpec

    spec, rng = TransformerSpec.from_config((LAYERS, LAYERS), HEADS), np.random.default_rng(0)

    def linear(part, rows, columns):
        part.weight = (rng.normal(size=(rows, columns)) * columns**-0.5).astype("float32")
        part.bias = np.zeros(rows, "float32")

    def norm(part):
        part.gamma, part.beta = np.ones(SIZE, "float32"), np.zeros(SIZE, "float32")

    def attention(part, widths):
        norm(part.layer_norm)
        for each, width in zip(part.linear, widths, strict=True):
            linear(each, width * SIZE, SIZE)

    for name, side in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        embedding = side.embeddings[0] if name == "encoder" else side.embeddings
        embedding.weight = (rng.normal(size=(WORDS, SIZE)) * SIZE**-0.5).astype("float32")
        side.scale_embeddings = True
        norm(side.layer_norm)
        for layer in side.layer:
            attention(layer.self_attention, (3, 1))
            norm(layer.ffn.layer_norm)
            linear(layer.ffn.linear_0, HIDDEN, SIZE)
            linear(layer.ffn.linear_1, SIZE, HIDDEN)
            if name == "decoder":
                attention(layer.attention, (1, 2, 1))
    linear(spec.decoder.projection, WORDS, SIZE)
    tokens = ["<blank>", "<s>", "</s>", *(f"t{i}" for i in range(WORDS - 3))]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.validate()
    folder = tempfile.mkdtemp()
    spec.save(folder)
    kind = "int8" if who.endswith("int8") else "float32"
    translator = ctranslate2.Translator(folder, compute_type=kind, inter_threads=1, intra_threads=os.cpu_count())
    texts = [[f"t{i}" for i in row] for row in sources(batch) - 4]
    return lambda: translator.translate_batch(
        texts, beam_size=beams, min_decoding_length=length, max_decoding_length=length, max_batch_size=batch
    )


def StopAfter(length):  # noqa: N802 - makes a strategy
    """Returns a greedy strategy that ends every text after `length` tokens."""
    from keras import ops

    from keras_attn import decoding

    class Stopping(decoding.Greedy):
        def pick(self, log_probs, index, context):
            return ops.where(index >= length - 1, context.end_id, ops.argmax(log_probs[:, 4:], axis=-1) + 4)

    return Stopping()


if __name__ == "__main__":
    main()
