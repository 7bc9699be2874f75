"""One call that writes a trained model to a folder that TF Serving can run."""

from __future__ import annotations

import os
import pathlib
import reprlib
from collections.abc import Iterable, Mapping, Sequence

import keras
import tensorflow as tf

from keras_attn.attention.cache import Cache
from keras_attn.base.checks import check_slot
from keras_attn.base.special_ids import check_same_special_ids
from keras_attn.base.tensors import is_float
from keras_attn.base.types import ArrayLike
from keras_attn.decoding.processors import Processor
from keras_attn.decoding.protocol import DecodingModel, ModelFacts, decodes, facts_of
from keras_attn.decoding.request import GenerationConfig, config_of
from keras_attn.decoding.strategies import Strategy
from keras_attn.pretrained import Pretrained
from keras_attn.serving.endpoints import Endpoints, ModelEndpoints, named_outputs, symbolic_inputs
from keras_attn.serving.folders import check_version, draft, publish
from keras_attn.serving.generation import GenerationEndpoints
from keras_attn.serving.guards import guarded
from keras_attn.serving.precision import in_dtype
from keras_attn.serving.pretrained_endpoints import MAX_LENGTH, pretrained_endpoints
from keras_attn.serving.rules import findings, warn_of_filling
from keras_attn.serving.warmup import warmup_requests, write_warmup
from keras_attn.text.tokenizer import Tokenizer


def export(
    model: DecodingModel | keras.Model | Pretrained,
    directory: str | os.PathLike[str],
    source_text: Tokenizer | None = None,
    target_text: Tokenizer | None = None,
    strategy: Strategy | None = None,
    max_length: int | None = None,
    warmup: Iterable[ArrayLike | Mapping[str, ArrayLike]] = (),
    version: int | None = None,
    processors: Sequence[Processor] = (),
    generate_xla: bool = False,
    cache: Cache | None = None,
    dtype: str | None = None,
) -> pathlib.Path:
    """Writes `directory/<version>/`, a SavedModel for TF Serving's default flags.

    Signatures of a model with steps, B rows, N texts per row, L tokens, V positions of a source:

    | signature | inputs | outputs |
    |---|---|---|
    | `serving_default` | `source` | `target`, the best text, and `score` `[B]` |
    | `generate` | `source` ids `[B, S]`, `max_length` `[B]`, `temperature` `[B]` | `tokens` `[B, N, L]`, `lengths`, \
`scores` `[B, N]`, `texts` `[B, N]` |
    | `prompt` | `source` | as `serving_default`; models that continue prompts, with a tokenizer |
    | `score` | `source`, `target` | `log_probability` `[B]`, `source_length`, `target_length`; of recipes with \
a source `attention_scores` |
    | `encode` | `source` | `memory` `[B, S, M]`, `mask` `[B, S]`; recipes with a source |
    | `generate_xla` | as `generate` | the same; only for servers started with XLA |

    `source` and `target` are strings `[B]` with a tokenizer, else ids int32 `[B, S]`; ids outside
    the model's vocabulary are read as unknown. A model without a padding id needs the lengths of ids as further
    inputs, `source_length` and `target_length` int32 `[B]`. A server may pad short rows with their first element.
    So rows with an end id are read up to the first one, unless they are prompts, and all others up
    to the last id that is neither padding, nor the start id, nor the row's own first id. A source
    whose last id equals its first is therefore read whole only if it ends with the end id, and such
    a prompt only if it begins with the start id. Rows are cut at the tokenizer's `max_length`, at 512
    ids without a tokenizer, and at a recipe's learned positions.

    Every signature refuses inputs of other ranks or sizes, and different numbers of rows, by name.
    Numbers in outputs are finite, because JSON has no others: 0 replaces NaN, and the dtype's
    greatest and least number replace the infinities. `max_length` is clipped to 1 ... L. Only
    `Sample` reads `temperature`; 0 selects the most probable token. Samples, even with a seed,
    depend on the row's position in the batch. `texts` needs a tokenizer.

    A language model whose tokenizer has a `chat` answers one turn of a user in `serving_default`, `prompt` and
    `score`; `generate` continues ids as they are.

    A pretrained encoder has signatures by its task, from `text` `[B]`: `embedding` `[B, D]`; `label`, `scores` and
    `labels`, also of pairs (`pair`, from `text` and `text_pair`); `tokens`, `tags`, `scores`, `starts` and `ends`
    `[B, S]`; `filled`, `candidates` and `scores` for masked words; or `hidden_states` `[B, S, D]` and `mask`.

    A functional model without steps has `serving_default` only, from its own inputs (or `source`)
    to its own outputs, by name. If an input has a free size after the first axis, such as ids of
    any length, a warning says that a server must not pad its rows.

    The folder is written under another name and then renamed: a server that polls `directory`
    never sees a partial model, and an interrupted export leaves no files.

    Args:
        model: A recipe of `keras_attn.models`, any object with `init_state` and `step` (see
            `keras_attn.decoding.generate`), a functional `keras.Model`, or what `keras_attn.pretrained.load`
            returns, which has tokenizers of its own.
        directory: Folder of the versions; its name is usually the name of the model.
        source_text, target_text: Tokenizers of `keras_attn.text`, or None for ids. A model that
            continues prompts uses the first for both by default.
        strategy: How to generate; `Greedy()` by default, and the generation settings of a pretrained model.
        max_length: Greatest number L of tokens of a text; by default that of the generation settings of a pretrained
            model, or 256.
        warmup: Examples that the server answers before it accepts requests, at most 1,000 requests
            in all: strings with a tokenizer, else an array per example (or a dictionary of arrays by
            input, if there are several), without a batch axis. They are stored with their answers,
            which `check` compares. Needs the extra `serving`.
        version: Positive integer; the next free one by default.
        processors: Of `keras_attn.decoding`, applied to every step.
        generate_xla: Whether to add `generate_xla`.
        cache: How attention stores keys and values: `ExactCache(dtype="bfloat16")` and `Int8Cache()` need less memory.
        dtype: `"bfloat16"` (or `"float16"`) for weights and arithmetic of a model that generates: half of the
            memory, and faster on CPUs and accelerators with fast products of that dtype. Weights are rounded
            once, before they are written; outputs stay float32. None for the dtype of the model.

    Returns:
        The path of the folder written.

    Raises:
        ValueError: For a model, tokenizers or examples that do not fit, a tokenizer whose special ids
            are not those of the model, a version that exists, or a graph that TF Serving would not
            run. Nothing is written then.

    Example:
    >>> import tempfile
    >>> from keras_attn import models, serving, text
    >>> letters = text.Characters("abc")
    >>> model = models.RNNSeq2Seq(letters.vocabulary_size, letters.vocabulary_size, size=8)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     serving.export(model, directory, letters, letters, max_length=5).name
    '1'
    """
    check_backend()
    model = in_dtype(model, dtype)
    for name, tokenizer in (("source_text", source_text), ("target_text", target_text)):
        check_slot(name, tokenizer, Tokenizer)
    if isinstance(warmup, (str, bytes, dict)):
        raise ValueError(f"`warmup` must be a list of examples. Received: {reprlib.repr(warmup)}.")
    if isinstance(model, Pretrained):
        if source_text is not None or target_text is not None:
            raise ValueError("A pretrained model has its own tokenizers. Received: source_text or target_text.")
        endpoints = pretrained_endpoints(model, strategy, max_length, processors, generate_xla, cache)
    else:
        length = MAX_LENGTH if max_length is None else max_length
        config = config_of(facts_of(model), strategy, length, processors=processors, cache=cache)
        endpoints = endpoints_of(model, config, source_text, target_text, generate_xla)
    requests = warmup_requests(endpoints, list(warmup))
    directory = pathlib.Path(directory)
    check_version(version, directory)
    with draft(directory) as folder:
        functions = {
            endpoint.name: tf.function(guarded(endpoint), endpoint.inputs, autograph=False)
            for endpoint in endpoints.all()
        }
        save(functions, endpoints.tracked, folder)
        problems = [problem for finding in findings(folder) for problem in finding.problems]
        if problems:
            raise ValueError("TF Serving would not run this model: " + "; ".join(problems))
        write_warmup(folder, directory.resolve().name, requests, endpoints, functions)
        return publish(folder, directory, version)


def save(
    functions: Mapping[str, tf.types.experimental.PolymorphicFunction],
    tracked: Iterable[object],
    folder: pathlib.Path,
) -> None:
    """Writes a SavedModel of functions, with their variables and the tables and files of the `tracked` objects.

    `keras.export.ExportArchive` would write every variable twice, as Keras' and as TensorFlow's.
    """
    root = tf.Module()
    variables = [variable for each in functions.values() for variable in each.get_concrete_function().variables]
    root.kept = list({id(variable): variable for variable in variables}.values())
    parts = [trackable(part) for part in tracked]  # a view has only a weak reference to its root
    root.resources = [
        each
        for part in parts
        for each in tf.train.TrackableView(part).descendants()
        if isinstance(each, (tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset))
    ]
    tf.saved_model.save(root, str(folder), signatures=functions)


def trackable(part: object) -> tf.Module | keras.layers.Layer:
    """Returns an object in which TensorFlow finds tables and files: a module, for a plain object."""
    if isinstance(part, (tf.Module, keras.layers.Layer)):
        return part
    holder = tf.Module()
    holder.parts = [value for value in vars(part).values() if isinstance(value, (tf.Module, keras.layers.Layer))]
    return holder


def endpoints_of(
    model: DecodingModel | keras.Model,
    config: GenerationConfig,
    source_text: Tokenizer | None,
    target_text: Tokenizer | None,
    generate_xla: bool,
) -> Endpoints:
    """Returns the endpoints of a model: those of generation if it has steps.

    Raises:
        ValueError: If the model cannot be exported, or the tokenizers do not fit it.
    """
    if decodes(model):
        facts = facts_of(model)
        if target_text is None and facts.reads_prompts:
            target_text = source_text  # a prompt and its continuation have the same vocabulary
        check_vocabularies(facts, source_text, target_text)
        check_special_ids(facts, source_text, target_text)
        return GenerationEndpoints(model, config, source_text, target_text, generate_xla)
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must have `init_state` and `step`, as the recipes have, or be a functional keras.Model. "
            f"Received: model of type {model.__class__.__name__}."
        )
    if target_text is not None or generate_xla:
        raise ValueError(
            "`target_text` and `generate_xla` are for models with `init_state` and `step`. "
            f"Received: target_text={target_text!r}, generate_xla={generate_xla}."
        )
    check_inputs(model, source_text)
    if source_text is None:
        warn_of_filling(symbolic_inputs(model))
    return ModelEndpoints(model, source_text)


def check_backend() -> None:
    """Raises a `ValueError` unless Keras runs on TensorFlow."""
    if keras.config.backend() != "tensorflow":
        raise ValueError(f"`export` needs the TensorFlow backend. Received: backend={keras.config.backend()!r}.")


def check_vocabularies(facts: ModelFacts, source_text: Tokenizer | None, target_text: Tokenizer | None) -> None:
    """Raises a `ValueError` for a tokenizer that is empty or has more ids than the model."""
    sides = (
        ("source_text", source_text, facts.source_vocabulary_size),
        ("target_text", target_text, facts.vocabulary_size),
    )
    for name, tokenizer, size in sides:
        if tokenizer is None:
            continue
        number = tokenizer.vocabulary_size
        if size is not None and number > size:
            raise ValueError(
                f"`{name}` must have at most the model's {size} ids. Received: {name}.vocabulary_size={number}."
            )


def check_special_ids(facts: ModelFacts, source_text: Tokenizer | None, target_text: Tokenizer | None) -> None:
    """Raises a `ValueError` unless model and tokenizers have the same special ids, padding among them."""
    texts = {"source_text": source_text, "target_text": target_text}
    ids_of_texts = {name: tokenizer.special_ids for name, tokenizer in texts.items() if tokenizer is not None}
    check_same_special_ids(model=facts.special_ids, **ids_of_texts)
    if facts.special_ids.padding is None and not facts.reads_prompts:
        raise ValueError(
            "`model` must have a padding id to be served, unless it continues prompts: the rows of a batch differ in "
            f"length. Received: model.special_ids={facts.special_ids}."
        )


def check_inputs(model: keras.Model, source_text: Tokenizer | None) -> None:
    """Raises a `ValueError` for inputs with a fixed first axis, or that a tokenizer cannot produce."""
    inputs = symbolic_inputs(model)
    named_outputs(model, model.outputs if isinstance(model, keras.Sequential) else model.output)
    fixed = [name for name, tensor in inputs.items() if not tensor.shape or tensor.shape[0] is not None]
    if fixed:
        raise ValueError(f"`model` must have inputs with a free first axis. Received: fixed ones for {fixed}.")
    if source_text is None:
        return
    wanted = [tensor for tensor in inputs.values() if len(tensor.shape) == 2 and not is_float(tensor)]
    if len(inputs) != 1 or not wanted:
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in inputs.items()}
        raise ValueError(
            '`source_text` needs a model with one input of ids, [B, S], `keras.Input((None,), dtype="int32")`. '
            f"Received: inputs {shapes}."
        )
