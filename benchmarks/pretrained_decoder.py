"""Tokens a second of a Llama of 135 million random parameters: reading a prompt, and generating.

With the layers of this library in a TensorFlow graph and under XLA, in float32 and bfloat16, and with
`transformers` on PyTorch, the peer: its better dtype counts. All read one folder with the same weights
(the sizes of SmolLM-135M), the same prompts and generate the same number of tokens, greedily. Each runs in a
process of its own. Prints tokens a second and the ratios to the best figure of the peer in the same run.

    python benchmarks/pretrained_decoder.py
"""

import argparse
import json
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from measuring import best_of, peak_megabytes, run, write_figures

WAYS = {  # who, and the dtype of the model
    "transformers-float32": ("torch", "float32"),
    "transformers-bfloat16": ("torch", "bfloat16"),
    "graph-float32": ("graph", "float32"),
    "graph-bfloat16": ("graph", "bfloat16"),
    "xla-float32": ("xla", "float32"),
    "xla-bfloat16": ("xla", "bfloat16"),
}
SIZES = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def main():
    arguments = parse_arguments()
    if arguments.one:
        print(json.dumps(measure(json.loads(arguments.one))))
        return
    rows = print_decoder(arguments)
    write_figures(arguments.out, rows)


def print_decoder(arguments):
    """Prints the figures of all ways and returns them."""
    numbers = {name: getattr(arguments, name) for name in ("batch_size", "prompt", "tokens", "repeats")}
    print(f"{'way':22} {'prompt tok/s':>12} {'ratio':>6} {'generated tok/s':>15} {'ratio':>6} {'MB':>6}")
    rows, best = [], {"read": 0.0, "write": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, arguments.blocks)
        for way in arguments.ways:  # the peer's first
            row = run(__file__, way=way, folder=folder, **numbers) | {"way": way}
            rows.append(row)
            if way.startswith("transformers"):
                best = {name: max(best[name], row[name]) for name in best}
            shown = [f"{row[name] / best[name]:.2f}" if best[name] else "" for name in best]
            print(
                f"{row['way']:22} {row['read']:12.1f} {shown[0]:>6} {row['write']:15.1f} {shown[1]:>6} "
                f"{row['megabytes']:6.0f}",
                flush=True,
            )
    return rows


def parse_arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=[*WAYS], help="who, and how it runs")
    parser.add_argument("--batch-size", type=int, default=1, help="prompts in a batch")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of each prompt")
    parser.add_argument("--tokens", type=int, default=32, help="tokens to generate")
    parser.add_argument("--repeats", type=int, default=2, help="passes, of which the fastest counts")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the figures")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--blocks", type=int, default=SIZES["num_hidden_layers"], help="blocks of the model")
    return parser.parse_args(given)


def write_model(folder, num_blocks):
    """Writes the folder of a Llama with random weights."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES | {"num_hidden_layers": num_blocks})
    ).save_pretrained(folder)


def measure(case):
    """Returns the figures of one way: tokens a second read and written, and megabytes."""
    who, dtype = WAYS[case["way"]]
    generate = {"torch": torch_model, "graph": keras_model, "xla": xla_model}[who](case["folder"], dtype)
    ids = np.random.default_rng(0).integers(3, SIZES["vocab_size"], (case["batch_size"], case["prompt"]))
    seconds = {}
    for tokens in (1, case["tokens"] + 1):
        seconds[tokens] = best_of(lambda tokens=tokens: generate(ids, tokens), repeats=case["repeats"])
    first, last = seconds.values()
    return {
        "read": ids.size / first,  # with the first token
        "write": case["batch_size"] * case["tokens"] / (last - first),
        "megabytes": peak_megabytes(),
    }


def torch_model(folder, dtype):
    """Returns a function that generates with `transformers`."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    named = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}

    def generate(ids, tokens):
        with torch.inference_mode():
            return model.generate(torch.tensor(ids), max_new_tokens=tokens, min_new_tokens=tokens, **named)

    return generate


def keras_model(folder, dtype, jit_compile=False):
    """Returns a function that generates with the layers of this library, compiled once."""
    from keras_attn import pretrained

    loaded = pretrained.load(folder, dtype=dtype)
    return lambda ids, tokens: loaded.model.generate(
        ids.astype("int32"), max_length=tokens, end_id=None, jit_compile=jit_compile
    )


def xla_model(folder, dtype):
    """As `keras_model`, under XLA."""
    return keras_model(folder, dtype, jit_compile=True)


if __name__ == "__main__":
    main()
