"""`load`: a local folder of a pretrained model becomes a Keras model of our layers and its tokenizer."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

import keras

from keras_attn.base.checks import check_positive
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.types import DType
from keras_attn.decoding.strategies import Strategy
from keras_attn.models.heads import Head, HiddenStates, SentenceEmbedding
from keras_attn.models.language_head import LanguageHead
from keras_attn.models.pooling import Mean
from keras_attn.pretrained.chat import chat_of
from keras_attn.pretrained.checkpoint import Checkpoint
from keras_attn.pretrained.folder import Folder
from keras_attn.pretrained.generation import generation_of
from keras_attn.pretrained.heads import activation_of_labels, labels_of, task_of
from keras_attn.pretrained.memory import check_memory
from keras_attn.pretrained.settings import Settings
from keras_attn.pretrained.tables import Table
from keras_attn.pretrained.weights import assign_weights, check_weights
from keras_attn.text.tokenizer import Tokenizer

LABELLED = "classification", "token_classification"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A pretrained model with everything that its use needs.

    Attributes:
        model: The Keras model over ids. Encoders: inputs `{"source": [B, S]}`, and `"segments"` `[B, S]` where there
            are token types, which may be left out. Encoder-decoders: `{"source": [B, S], "target": [B, T]}`.
            Decoders: `{"target": [B, T]}`.
        task: `"hidden_states"`, `"embedding"`, `"classification"`, `"token_classification"` or `"masked_words"` of
            encoders, `"text_to_text"` of encoder-decoders, `"text_generation"` of decoders.
        source_text, target_text: The tokenizers from and to strings, or None for a folder without one.
        special_ids: The special ids of the vocabulary. A vocabulary may have no padding (`padding=None`); the
            lengths of prompts are then explicit: `model.generate(ids, source_lengths=...)`.
        strategy: How the model generates by its generation settings; None for encoders.
        labels: The labels of classification tasks, in the order of the logits; otherwise empty.
        activation: `"softmax"`, `"sigmoid"` or `"linear"`: from logits to scores.
        family: Name of the family, for example `"bert"`.
        max_new_tokens: Greatest number of tokens of a generated text by its generation settings, or None.
    """

    model: keras.Model
    task: str
    source_text: Tokenizer | None
    target_text: Tokenizer | None
    special_ids: SpecialIds
    strategy: Strategy | None
    labels: tuple[str, ...]
    activation: str
    family: str
    max_new_tokens: int | None = None


def load(
    folder: str | pathlib.Path,
    task: str | None = None,
    max_length: int | None = None,
    dtype: DType = None,
    num_labels: int | None = None,
    verbose: int = 0,
    prefix: str | None = None,
) -> Pretrained:
    """Loads a pretrained text model from a local folder of transformers or sentence-transformers.

    Read are `config.json`, `generation_config.json`, `*.safetensors` (also in several files, also in half
    precision), the files of the tokenizer with its chat template, and `modules.json` with the modules that it
    names. Nothing is downloaded, and no code of the folder runs but its chat template, in a sandbox.

    Args:
        folder: The folder.
        task: What an encoder returns: `"hidden_states"` `[B, S, D]`, `"embedding"` `[B, E]`, `"classification"`
            `[B, labels]`, `"token_classification"` `[B, S, labels]` or `"masked_words"` `[B, S, V]`, all in
            float32. By default that of the folder: an embedding if there is a `modules.json`, else the task of
            `architectures`. An embedding of a folder without `modules.json` is the mean of the hidden states.
            A model that generates may be given one of the tasks in `task_specific_params` of its config, for
            example `"translation_en_to_de"` of T5: its prefix and its generation settings.
        max_length: Greatest number of ids of a text; longer texts are truncated. By default the smallest of the
            tokenizer's, sentence-transformers' and the model's own.
        dtype: Dtype policy of the model, for example `"mixed_bfloat16"`; Keras' global one by default.
        num_labels: For classification tasks: the number of labels of a new head that is not trained yet. Without
            it, the head is that of the checkpoint, and a checkpoint without one is refused.
        verbose: 1 to show a progress bar while weights are read.
        prefix: Text that the tokenizer puts in front of every text, for example a language code of Marian,
            `">>fra<< "`; by default that of the task, if it has one.

    Returns:
        A `Pretrained`.

    Raises:
        ValueError: If the folder does not exist, or for unknown families, settings that are unknown or not
            supported, missing or left-over weights, wrong shapes, pickled weights, tasks without weights, and models
            that need more memory than there is.

    Example:
    >>> from keras_attn import pretrained
    >>> loaded = pretrained.load("none")
    Traceback (most recent call last):
        ...
    ValueError: `folder` must be a folder with config.json and *.safetensors, nothing is downloaded. Received: none.
    """
    check_positive("max_length", max_length, optional=True)
    check_positive("num_labels", num_labels, optional=True)
    source = Folder.read(folder)
    if source.family.generates:
        return load_generating(source, task, max_length, dtype, num_labels, verbose, prefix)
    task = task_of(task, source.config, source.sentences is not None, source.family)
    if num_labels is not None and task not in LABELLED:
        raise ValueError(f"`num_labels` is for the tasks {list(LABELLED)}. Received: task={task!r}.")
    labels = labels_for(source.settings, task, num_labels)
    activation = activation_of_labels(source.settings, len(labels)) if labels else "linear"
    head, table = head_of(source, task, len(labels))
    if num_labels is not None:
        table = trained_part(table, source.checkpoint)
    texts = source.tokenizer.make(source.max_length(max_length), source.special_ids, prefix or "")
    model = build(source, head, table, dtype, verbose)
    return Pretrained(model, task, *texts, source.special_ids, None, labels, activation, source.family.name)


def load_generating(
    source: Folder,
    task: str | None,
    max_length: int | None,
    dtype: DType,
    num_labels: int | None,
    verbose: int,
    prefix: str | None,
) -> Pretrained:
    """As `load`, for a family that generates texts."""
    if num_labels is not None:
        raise ValueError(f"`num_labels` is for the tasks {list(LABELLED)}. Received: a model that generates texts.")
    kind, own, settings = source.generation_of(task)
    generation = generation_of(settings, source.special_ids, kind == "text_generation")
    head, table = head_of(source, kind, 0)
    prefix = own if prefix is None else prefix
    chat = chat_of(source.folder, source.tokenizer.settings) if kind == "text_generation" else None
    texts = source.tokenizer.make(source.max_length(max_length), source.special_ids, prefix, chat)
    return Pretrained(
        build(source, head, table, dtype, verbose),
        kind,
        *texts,
        source.special_ids,
        generation.strategy,
        (),
        "linear",
        source.family.name,
        generation.max_new_tokens,
    )


def build(source: Folder, head: Head | LanguageHead, table: Table, dtype: DType, verbose: int) -> keras.Model:
    """Returns the model with its weights, which are checked before it is built.

    Args:
        source: The folder.
        head: The head.
        table: The weights of the head, without those of sentence-transformers.
        dtype, verbose: As for `load`.
    """
    family, settings = source.family, source.settings
    table = family.weights(settings) | table
    check_weights(table, source.checkpoint, family.is_known)
    parts = [(table, source.checkpoint)]
    if source.sentences is not None and head is source.sentences.head:
        parts += [({name: entry}, checkpoint) for name, (checkpoint, entry) in source.sentences.maps.items()]
    for part, checkpoint in parts[1:]:
        check_weights(part, checkpoint)
    check_memory(table, source.checkpoint, dtype)
    with dtype_policy(dtype):
        model = family.recipe(**family.arguments(settings), head=head, special_ids=source.special_ids)
    for part, checkpoint in parts:
        assign_weights(model, part, checkpoint, verbose)
    return model


def head_of(source: Folder, task: str, num_labels: int) -> tuple[Head | LanguageHead, Table]:
    """Returns the head of a task and the table of its weights, without those of sentence-transformers."""
    if task == "hidden_states":
        return HiddenStates(), {}
    if task == "embedding":
        head = SentenceEmbedding(Mean(), normalize=False) if source.sentences is None else source.sentences.head
        return head, {}
    settings = source.settings
    if task not in LABELLED and settings["tie_word_embeddings"]:
        # As in transformers, two different matrices in the checkpoint are not tied, whatever the config says.
        pairs = source.family.tied.items()
        settings["tie_word_embeddings"] = all(source.checkpoint.equal(name, other) for name, other in pairs)
    return source.family.heads[task](settings, num_labels)


def labels_for(settings: Settings, task: str, num_labels: int | None) -> tuple[str, ...]:
    """Returns the labels of a task; a new head has those of the config if their number is the same."""
    if task not in LABELLED:
        return ()
    labels = labels_of(settings)
    if num_labels is None or num_labels == len(labels):
        return labels
    return tuple(f"LABEL_{i}" for i in range(num_labels))


def trained_part(table: Table, checkpoint: Checkpoint) -> Table:
    """Returns the entries of a head without `labels` that the checkpoint has, for a head with new labels."""
    return {
        path: entry
        for path, entry in table.items()
        if path != "labels" and all(checkpoint.shapes.get(name) == shape for name, shape in entry.shapes().items())
    }


@contextlib.contextmanager
def dtype_policy(dtype: DType) -> Iterator[None]:
    """Makes `dtype` the global dtype policy inside the block; None changes nothing."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if dtype is None else dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
