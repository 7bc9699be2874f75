"""Seconds of a training step of a recurrent encoder-decoder with additive attention, and its rate of decoding.

An embedding, a bidirectional encoder of the same kind of cell, a decoder with additive attention, a linear
layer to 8,000 words, Adam; random ids. The peers of the decoder of this library are a hand-written cell in
`keras.layers.RNN`, as it is written without a library, and the same model as a PyTorch loop (needs
`torch`). Each case runs in a process of its own; in several rounds, of which the fastest step counts.
Prints seconds, the ratio to the Keras peer (its float32 graph at the same lengths; above 1 is faster), and
the most memory that the process held. `--work decode` measures a step of greedy decoding with the
library's model of GRUs, without a peer.

    python benchmarks/recurrent.py --lengths 40 --cells gru
"""

import argparse
import itertools
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from measuring import is_installed, peak_megabytes, run, write_figures

WORDS = 8_000
WAYS = {  # who, how it runs, and in which dtype policy
    "keras": ("keras", "graph", "float32"),
    "torch": ("torch", "eager", "float32"),
    "graph": ("ours", "graph", "float32"),
    "xla": ("ours", "xla", "float32"),
    "graph-bfloat16": ("ours", "graph", "mixed_bfloat16"),
    "xla-bfloat16": ("ours", "xla", "mixed_bfloat16"),
}
DEFAULTS = [way for way in WAYS if way != "xla-bfloat16"]


def main():
    arguments = parse_arguments()
    if arguments.one:
        case = json.loads(arguments.one)
        print(json.dumps({"train": train, "decode": decode}[case["work"]](case)))
        return
    rows = []
    print(f"{'work':6} {'cell':4} {'length':>6} {'padded':>6} {'way':15} {'seconds':>8} {'ratio':>6} {'MB':>6}")
    settings = itertools.product(arguments.work, arguments.cells, arguments.lengths, arguments.padded)
    for work, cell, length, padded in settings:
        if work == "decode" and cell != "gru":  # the recipe's cell
            continue
        case = {"work": work, "cell": cell, "length": length, "padded": padded == "yes"}
        rows += compare(case, arguments)
    write_figures(arguments.out, rows)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", default=["train"], choices=["train", "decode"], help="what to measure")
    parser.add_argument("--ways", nargs="+", default=DEFAULTS, choices=[*WAYS], help="who, and how it runs")
    parser.add_argument("--cells", nargs="+", default=["gru"], choices=["gru", "lstm"], help="kinds of cells")
    parser.add_argument("--lengths", nargs="+", type=int, default=[40], help="lengths of source and target")
    parser.add_argument("--padded", nargs="+", default=["no"], choices=["no", "yes"], help="whether rows end early")
    parser.add_argument("--batch-size", type=int, default=64, help="rows B of a batch")
    parser.add_argument("--size", type=int, default=256, help="size U of embeddings, states and scores")
    parser.add_argument("--steps", type=int, default=5, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=2, help="rounds, each a process of its own")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(case, arguments):
    """Measures all ways on one setting, in rounds; prints a line for each and returns the rows."""
    sizes = {"batch_size": arguments.batch_size, "size": arguments.size, "steps": arguments.steps}
    ways = [way for way in arguments.ways if case["work"] == "train" or way in ("graph", "xla")]
    if "torch" in ways and not is_installed("torch"):
        ways.remove("torch")
        print(f"{case['work']:6} {case['cell']:4} {case['length']:6} {'':6} torch            left out: not installed")
    found = {way: [] for way in ways}
    for _, way in itertools.product(range(arguments.rounds), ways):
        found[way].append(run(__file__, **case, **sizes, way=way))
    rows = [
        {**case, "way": way, **{name: min(each[name] for each in figures) for name in figures[0]}}
        for way, figures in found.items()
    ]
    for row in rows:
        peer = min((each["seconds"] for each in rows if each["way"] == "keras"), default=None)
        row["ratio"] = peer and peer / row["seconds"]
        ratio = "" if peer is None else f"{row['ratio']:.2f}"
        print(
            f"{row['work']:6} {row['cell']:4} {row['length']:6} {'yes' if row['padded'] else 'no':>6} {row['way']:15} "
            f"{row['seconds']:8.4f} {ratio:>6} {row['megabytes']:6.0f}"
            + (f"  {1 / row['seconds']:.0f} steps/s" if row["work"] == "decode" else ""),
            flush=True,
        )
    return rows


def batch(case):
    """Returns source and target ids `[B, L]`; padded rows have from half of the positions to all."""
    rng = np.random.default_rng(0)
    shape = (case["batch_size"], case["length"])
    sides = [rng.integers(4, WORDS, shape) for _ in range(2)]
    if case["padded"]:
        sides = [
            side * (np.arange(shape[1]) < rng.integers(shape[1] // 2, shape[1] + 1, (shape[0], 1))) for side in sides
        ]
    return [side.astype("int32") for side in sides]


def timed(call, steps):
    """Returns the least seconds of some calls after two to warm up, and the memory of the process."""
    call(), call()
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": min(seconds), "megabytes": peak_megabytes()}


def train(case):
    """Returns the seconds of one training step."""
    who, mode, dtype = WAYS[case["way"]]
    if who == "torch":
        return timed(torch_step(case), case["steps"])
    import keras

    keras.config.set_dtype_policy(dtype)
    source, target = batch(case)
    model = (hand_written if who == "keras" else ours)(case)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0 if case["padded"] else None)
    model.compile("adam", loss, jit_compile=mode == "xla")
    return timed(lambda: model.train_on_batch({"source": source, "target": target}, target), case["steps"])


def embedded(case):
    """Returns the inputs, the encoded source `[B, S, U]`, the embedded target and their masks or None."""
    import keras

    inputs = {side: keras.Input((None,), dtype="int32", name=side) for side in ("source", "target")}
    masks = {side: keras.ops.not_equal(ids, 0) if case["padded"] else None for side, ids in inputs.items()}
    vectors = {side: keras.layers.Embedding(WORDS, case["size"])(ids) for side, ids in inputs.items()}
    layer = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[case["cell"]]
    reader = keras.layers.Bidirectional(layer(case["size"] // 2, return_sequences=True))
    return inputs, reader(vectors["source"], mask=masks["source"]), vectors["target"], masks


def ours(case):
    """Returns the model with the decoder of this library."""
    import keras

    from keras_attn import AdditiveRNNAttention
    from keras_attn.recurrent.cells import recurrent_initializer

    inputs, memory, x, masks = embedded(case)
    cell = {"gru": keras.layers.GRUCell, "lstm": keras.layers.LSTMCell}[case["cell"]](
        case["size"], recurrent_initializer=recurrent_initializer(None)
    )
    decoder = AdditiveRNNAttention(case["size"], cell=cell)
    outputs = decoder(x, memory, inputs_mask=masks["target"], memory_mask=masks["source"])
    return keras.Model(inputs, keras.layers.Dense(WORDS)(outputs))


def hand_written(case):
    """Returns the model with a cell that keeps the memory in its state, in `keras.layers.RNN`."""
    import keras
    from keras import ops

    size, kind = case["size"], case["cell"]
    number = {"gru": 1, "lstm": 2}[kind]  # of state tensors

    class Cell(keras.layers.Layer):
        def __init__(self, length, **kwargs):
            super().__init__(**kwargs)
            self.cell = {"gru": keras.layers.GRUCell, "lstm": keras.layers.LSTMCell}[kind](size)
            self.query = keras.layers.Dense(size)
            self.state_size = [(size,)] * number + [(length, size), (length, size), (length,)]
            self.output_size = 2 * size

        def build(self, shape):
            self.cell.build((None, 2 * size))
            self.query.build((None, size))
            self.v = self.add_weight(shape=(size,), name="v")

        def call(self, x, states, training=None):
            *state, memory, keys, hidden = states
            scores = ops.sum(ops.tanh(keys + self.query(state[0])[:, None]) * self.v, axis=-1)
            if case["padded"]:
                scores = scores - 1e9 * hidden
            context = ops.einsum("bs,bsd->bd", ops.softmax(scores), memory)
            outputs, state = self.cell(ops.concatenate([x, context], axis=-1), state)
            return ops.concatenate([outputs, context], axis=-1), [*state, memory, keys, hidden]

    inputs, memory, x, masks = embedded(case)
    keys = keras.layers.Dense(size, use_bias=False)(memory)
    hidden = ops.cast(ops.equal(inputs["source"], 0), "float32")
    first = ops.zeros_like(memory[:, 0])
    rnn = keras.layers.RNN(Cell(case["length"]), return_sequences=True)
    outputs = rnn(x, initial_state=[first] * number + [memory, keys, hidden], mask=masks["target"])
    return keras.Model(inputs, keras.layers.Dense(WORDS)(outputs))


def torch_step(case):
    """Returns a function that trains one step of the same model as a PyTorch loop."""
    import torch
    from torch import nn

    size, lstm = case["size"], case["cell"] == "lstm"
    source, target = (torch.tensor(side).long() for side in batch(case))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.source, self.target = nn.Embedding(WORDS, size), nn.Embedding(WORDS, size)
            reader = nn.LSTM if lstm else nn.GRU
            self.reader = reader(size, size // 2, bidirectional=True, batch_first=True)
            self.keys, self.query = nn.Linear(size, size, bias=False), nn.Linear(size, size, bias=False)
            self.v = nn.Linear(size, 1, bias=False)
            self.cell = (nn.LSTMCell if lstm else nn.GRUCell)(2 * size, size)
            self.logits = nn.Linear(2 * size, WORDS)

        def forward(self):
            memory, _ = self.reader(self.source(source))
            keys, x, hidden = self.keys(memory), self.target(target), source == 0
            state = torch.zeros(len(source), size)
            carry, outputs = torch.zeros_like(state), []
            for step in range(target.shape[1]):
                scores = self.v(torch.tanh(keys + self.query(state)[:, None])).squeeze(-1)
                if case["padded"]:
                    scores = scores.masked_fill(hidden, -1e9)
                context = torch.bmm(torch.softmax(scores, -1)[:, None], memory)[:, 0]
                joined = torch.cat([x[:, step], context], -1)
                if lstm:
                    state, carry = self.cell(joined, (state, carry))
                else:
                    state = self.cell(joined, state)
                outputs.append(torch.cat([state, context], -1))
            return self.logits(torch.stack(outputs, 1))

    model = Model()
    optimizer = torch.optim.Adam(model.parameters())

    def step():
        optimizer.zero_grad()
        ignored = 0 if case["padded"] else -100
        loss = nn.functional.cross_entropy(model().reshape(-1, WORDS), target.reshape(-1), ignore_index=ignored)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def decode(case):
    """Returns the seconds of a step of greedy decoding, all rows to the full length."""
    from keras_attn import models

    source, _ = batch(case)
    model = models.RNNSeq2Seq(WORDS, WORDS, size=case["size"])
    options = {"max_length": case["length"], "end_id": None, "jit_compile": WAYS[case["way"]][1] == "xla"}
    figures = timed(lambda: model.generate(source, **options).tokens.numpy(), case["steps"])
    return {**figures, "seconds": figures["seconds"] / case["length"]}


if __name__ == "__main__":
    main()
