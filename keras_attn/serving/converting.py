"""The command `keras-attn convert`: a folder with a pretrained model becomes a folder for TF Serving."""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
import tensorflow as tf

from keras_attn import pretrained
from keras_attn.attention.cache import Cache, ExactCache, Int8Cache
from keras_attn.pretrained import Pretrained
from keras_attn.serving.checking import check
from keras_attn.serving.endpoints import Endpoints
from keras_attn.serving.exporting import export
from keras_attn.serving.pretrained_endpoints import pretrained_endpoints
from keras_attn.serving.tensor_specs import Arrays
from keras_attn.serving.warmup import Request, read_warmup
from keras_attn.text import PretrainedTokenizer

SAMPLE = "The quick brown fox jumps over the lazy dog."
CACHES: dict[str, Cache] = {
    "float32": ExactCache(dtype="float32"),
    "bfloat16": ExactCache(dtype="bfloat16"),
    "int8": Int8Cache(),
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-attn convert`."""
    command.add_argument("out", type=pathlib.Path, help="folder of versions to write; its name is the model's")
    command.add_argument("--task", default=None, help="what the model is for; read from the folder by default")
    command.add_argument("--max-length", type=int, default=None, help="greatest number of tokens of a text")
    command.add_argument("--max-new-tokens", type=int, default=None, help="greatest number of tokens of an answer")
    command.add_argument("--prefix", default=None, help="text before every text, such as a language code")
    command.add_argument("--cache", choices=sorted(CACHES), default=None, help="dtype of the cached keys and values")
    command.add_argument("--dtype", default=None, help="dtype policy of the model; float32 by default")
    command.add_argument("--sample", default=None, metavar="TEXT", help="text to answer as a sample and as warm-up")


def run_convert(arguments: argparse.Namespace) -> int:
    """Converts the model, checks the result and prints a summary; returns 1 if the model cannot be served."""
    loaded = pretrained.load(
        arguments.path,
        arguments.task,
        max_length=arguments.max_length,
        dtype=arguments.dtype,
        verbose=1,
        prefix=arguments.prefix,
    )
    sample = sample_of(loaded) if arguments.sample is None else arguments.sample
    folder = export(
        loaded,
        arguments.out,
        max_length=arguments.max_new_tokens,
        warmup=[] if loaded.source_text is None else [sample],
        cache=None if arguments.cache is None else CACHES[arguments.cache],
    )
    print(summary(loaded, folder))
    report = check(folder)
    print(report)
    return 0 if report.ok else 1


def sample_of(loaded: Pretrained) -> str:
    """Returns a text that the model can answer: with a mask token if its task is to fill it."""
    tokenizer = loaded.source_text
    if loaded.task != "masked_words" or not isinstance(tokenizer, PretrainedTokenizer) or tokenizer.mask_id is None:
        return SAMPLE
    return SAMPLE.replace("fox", tokenizer.tokens[tokenizer.mask_id])


def summary(loaded: Pretrained, folder: pathlib.Path) -> str:
    """Returns family, size and signatures of a model that was written to a folder."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{folder}: {loaded.family}, {loaded.task}, {loaded.model.count_params():,} parameters, {size / 1e6:,.1f} MB",
        *signatures(pretrained_endpoints(loaded)),
        *(answer for request, outputs in read_warmup(folder) for answer in sample_lines(request, outputs)),
    ]
    return "\n".join(lines)


def sample_lines(request: Request, outputs: Arrays) -> list[str]:
    """Returns a warm-up request and its answer, long arrays shortened, a line for each tensor."""
    lines = [f"  {request.signature}({', '.join(f'{name}={shown(each)}' for name, each in request.inputs.items())}):"]
    return lines + [f"    {name} {list(each.shape)}: {shown(each)}" for name, each in outputs.items()]


def shown(array: np.ndarray) -> str:
    """Returns the first row of a batch as a short line."""
    row = array[0]
    if isinstance(row, bytes):
        return repr(row.decode("utf-8", "replace"))
    if row.dtype == object:
        row = np.array([each.decode("utf-8", "replace") for each in row.reshape(-1)]).reshape(row.shape)
    line = np.array2string(row, threshold=8, edgeitems=3, precision=4, separator=", ", max_line_width=10_000)
    return " ".join(line.split())


def signatures(endpoints: Endpoints) -> list[str]:
    """Returns a line for each signature and its inputs."""
    lines = []
    for endpoint in endpoints.all():
        inputs = ", ".join(f"{spec.name} {tf.as_dtype(spec.dtype).name} {spec.shape}" for spec in endpoint.inputs)
        lines.append(f"  {endpoint.name}: {inputs}")
    return lines
