"""One call from a trained model to a folder that TF Serving runs as it stands."""

import pathlib
import reprlib
import warnings

import keras
import tensorflow as tf

from keras_attn.base.checks import check_slot
from keras_attn.base.special_ids import check_same_special_ids
from keras_attn.decoding.protocol import decodes, facts_of
from keras_attn.decoding.request import config_of
from keras_attn.serving.endpoints import ModelEndpoints, named_inputs, named_outputs
from keras_attn.serving.folders import check_version, draft, publish
from keras_attn.serving.generation import GenerationEndpoints
from keras_attn.serving.guards import guarded
from keras_attn.serving.rules import filling_note, findings
from keras_attn.serving.warmup import warmup_requests, write_warmup
from keras_attn.text.tokenizer import Tokenizer


def export(
    model,
    directory,
    source_text=None,
    target_text=None,
    strategy=None,
    max_length=256,
    warmup=(),
    version=None,
    processors=(),
    generate_xla=False,
):
    """Writes `directory/<version>/`, a SavedModel for TF Serving's default flags.

    Signatures of a model with steps, B rows, N texts per row, L tokens, V positions of a source:

    | signature | inputs | outputs |
    |---|---|---|
    | `serving_default` | `source` | `target`, the best text, and `score` `[B]` |
    | `generate` | `source` ids `[B, S]`, `max_length` `[B]`, `temperature` `[B]` | `tokens` `[B, N, L]`, `lengths`, \
`scores` `[B, N]`, `texts` `[B, N]` |
    | `score` | `source`, `target` | `log_probability` `[B]`, `source_length`, `target_length`; of recipes with \
a source `attention_scores` |
    | `encode` | `source` | `memory` `[B, S, M]`, `mask` `[B, S]`; recipes with a source |
    | `generate_xla` | as `generate` | the same; only for servers started with XLA |

    `source` and `target` are strings `[B]` where there is a tokenizer, else ids int32 `[B, S]`;
    those outside of the model's vocabulary are read as unknown. A server may fill short rows with
    their first element. So rows that hold an end id are read up to the first one, unless they are
    prompts, and all others up to the last id that is neither padding, nor the start id, nor the
    row's own first id: a source that ends in its own first id must end with the end id, and such
    a prompt must begin with the start id, to be read whole. Rows are cut at the tokenizer's
    `max_length`, at 512 ids where there is none, and at a recipe's learned positions.

    Every signature refuses inputs of other ranks or sizes, and unlike numbers of rows, by name.
    Numbers in outputs are finite: 0 stands for what is not a number, the dtype's greatest and
    least for the infinities, which JSON does not know. `max_length` is taken into 1 ... L; a
    temperature of 0 takes the most probable token, and only `Sample` reads it: its draws, also
    seeded ones, depend on the row's place in a batch. `texts` wants a tokenizer.

    A functional model without steps has `serving_default` alone: its own inputs (or `source`) to
    its own outputs, by name. Where an input has a free size behind the first axis, such as ids of
    any length, a warning says that a server must not fill its rows.

    The folder is written beside its place and then renamed, so that a server that polls
    `directory` never sees half a model, and an interrupted export leaves nothing behind.

    Args:
        model: A recipe of `keras_attn.models`, any object with `init_state` and `step` (see
            `keras_attn.decoding.generate`), or a functional `keras.Model`.
        directory: Folder of the versions; its name is usually the name of the model.
        source_text, target_text: Tokenizers of `keras_attn.text`, or None for ids. A model that
            continues prompts uses the first for both.
        strategy: How to generate; `Greedy()` by default.
        max_length: Number L of tokens of a text at most.
        warmup: Examples to answer before the server takes requests, at most 1,000 requests in
            all: strings where there is a tokenizer, else an array per example (a dictionary of
            arrays by input where there are several), without a batch axis. They are written
            with their answers, which `check` compares. Wants the extra `serving`.
        version: Positive integer; the next free one by default.
        processors: Of `keras_attn.decoding`, applied to every step.
        generate_xla: Whether to add `generate_xla`.

    Returns:
        The path of the folder written.

    Raises:
        ValueError: For a model, tokenizers or examples that do not fit, special ids of a tokenizer
            that are not those of the model, a version that exists,
            or a graph that TF Serving would not run; nothing is written then.

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
    for name, tokenizer in (("source_text", source_text), ("target_text", target_text)):
        check_slot(name, tokenizer, Tokenizer)
    if isinstance(warmup, (str, bytes, dict)):
        raise ValueError(f"`warmup` must be a list of examples. Received: {reprlib.repr(warmup)}.")
    config = config_of(facts_of(model), strategy, max_length, processors=processors)
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


def save(functions, tracked, folder):
    """Writes a SavedModel of functions, with what they use of the `tracked` objects.

    `keras.export.ExportArchive` would write every variable twice, once as Keras' and once as
    TensorFlow's.
    """
    root = tf.Module()
    variables = [variable for each in functions.values() for variable in each.get_concrete_function().variables]
    root.kept = list({id(variable): variable for variable in variables}.values())
    parts = [trackable(part) for part in tracked]  # a view holds its root weakly
    root.resources = [
        each
        for part in parts
        for each in tf.train.TrackableView(part).descendants()
        if isinstance(each, (tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset))
    ]
    tf.saved_model.save(root, str(folder), signatures=functions)


def trackable(part):
    """Returns what TensorFlow can look through for tables and files: a plain object's attributes stand for it."""
    if isinstance(part, (tf.Module, keras.layers.Layer)):
        return part
    holder = tf.Module()
    holder.parts = [value for value in vars(part).values() if isinstance(value, (tf.Module, keras.layers.Layer))]
    return holder


def endpoints_of(model, config, source_text, target_text, generate_xla):
    """Returns the endpoints that fit a model: those of generation if it has steps.

    Raises:
        ValueError: If the model cannot be exported, or the tokenizers do not fit it.
    """
    if decodes(model):
        facts = facts_of(model)
        if target_text is None and facts.reads_prompts:
            target_text = source_text  # of one language
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
        warn_of_filling(named_inputs(model))
    return ModelEndpoints(model, source_text)


def warn_of_filling(inputs):
    """Warns of symbolic inputs by name whose short rows a server may fill: filler looks like what was meant."""
    free = [name for name, tensor in inputs.items() if None in tensor.shape[1:]]
    if free:
        warnings.warn(f"`model` has inputs {filling_note(free)}.", stacklevel=4)


def check_backend():
    """Raises a `ValueError` unless Keras runs on TensorFlow."""
    if keras.config.backend() != "tensorflow":
        raise ValueError(f"`export` wants Keras on TensorFlow. Received: backend={keras.config.backend()!r}.")


def check_vocabularies(facts, source_text, target_text):
    """Raises a `ValueError` for a tokenizer that is empty, or has more ids than the facts of the model allow."""
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


def check_special_ids(facts, source_text, target_text):
    """Raises a `ValueError` unless model and tokenizers have the same special ids, padding among them."""
    texts = {"source_text": source_text, "target_text": target_text}
    ids_of_texts = {name: tokenizer.special_ids for name, tokenizer in texts.items() if tokenizer is not None}
    check_same_special_ids(model=facts.special_ids, **ids_of_texts)
    if facts.special_ids.padding is None:
        raise ValueError(
            "`model` must have a padding id to be served: the rows of a batch differ in length. "
            f"Received: model.special_ids={facts.special_ids}."
        )


def check_inputs(model, source_text):
    """Raises a `ValueError` for inputs whose batch is not free, or that a tokenizer cannot fill."""
    inputs = named_inputs(model)
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
            '`source_text` wants a model with one input of ids, [B, S], `keras.Input((None,), dtype="int32")`. '
            f"Received: inputs {shapes}."
        )


def is_float(tensor):
    """Tells whether a tensor holds floating-point numbers."""
    return keras.backend.is_float_dtype(tensor.dtype)
