"""`load`: a local folder of a pretrained model becomes a Keras model of our layers and its tokenizer."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import keras

from keras_attn.base.checks import check_positive
from keras_attn.base.special_ids import SpecialIds
from keras_attn.base.types import DType
from keras_attn.decoding.strategies import Strategy
from keras_attn.models.heads import Head, HiddenStates, SentenceEmbedding
from keras_attn.models.pooling import Mean
from keras_attn.pretrained.checkpoint import Checkpoint
from keras_attn.pretrained.families import family_of
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.files import read_json
from keras_attn.pretrained.heads import activation_of_labels, check_folder, labels_of, task_of
from keras_attn.pretrained.sentence_transformers import SentenceModel, read_sentence_model
from keras_attn.pretrained.settings import Settings, read_settings
from keras_attn.pretrained.tokenizer import TokenizerFolder
from keras_attn.pretrained.weights import Table, assign_weights, check_weights
from keras_attn.text import PretrainedTokenizer

LABELLED = "classification", "token_classification"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A pretrained model with everything that its use needs.

    Attributes:
        model: The Keras model over ids: inputs `{"source": [B, S]}`, and `"segments"` `[B, S]` where there are
            token types, which may be left out.
        task: `"hidden_states"`, `"embedding"`, `"classification"`, `"token_classification"` or `"masked_words"`.
        source_text, target_text: The tokenizers from and to strings, or None for a folder without one.
        special_ids: The special ids of the vocabulary.
        strategy: How the model generates; None for encoders.
        labels: The labels of classification tasks, in the order of the logits; otherwise empty.
        activation: `"softmax"`, `"sigmoid"` or `"linear"`: from logits to scores.
        family: Name of the family, for example `"bert"`.
    """

    model: keras.Model
    task: str
    source_text: PretrainedTokenizer | None
    target_text: PretrainedTokenizer | None
    special_ids: SpecialIds
    strategy: Strategy | None
    labels: tuple[str, ...]
    activation: str
    family: str


def load(
    folder: str | pathlib.Path,
    task: str | None = None,
    max_length: int | None = None,
    dtype: DType = None,
    num_labels: int | None = None,
    verbose: int = 0,
) -> Pretrained:
    """Loads a pretrained text encoder from a local folder of transformers or sentence-transformers.

    Read are `config.json`, `*.safetensors` (also in several files, also in half precision), `tokenizer.json` or
    `vocab.txt`, `tokenizer_config.json`, and `modules.json` with the modules that it names. Nothing is downloaded,
    and no code of the folder runs.

    Args:
        folder: The folder.
        task: What the model returns: `"hidden_states"` `[B, S, D]`, `"embedding"` `[B, E]`, `"classification"`
            `[B, labels]`, `"token_classification"` `[B, S, labels]` or `"masked_words"` `[B, S, V]`, all in
            float32. By default that of the folder: an embedding if there is a `modules.json`, else the task of
            `architectures`. An embedding of a folder without `modules.json` is the mean of the hidden states.
        max_length: Greatest number of ids of a text; longer texts are truncated. By default the smallest of the
            tokenizer's, sentence-transformers' and the model's own.
        dtype: Dtype policy of the model, for example `"mixed_bfloat16"`; Keras' global one by default.
        num_labels: For classification tasks: the number of labels of a new head that is not trained yet. Without
            it, the head is that of the checkpoint, and a checkpoint without one is refused.
        verbose: 1 to show a progress bar while weights are read.

    Returns:
        A `Pretrained`.

    Raises:
        ValueError: If the folder does not exist, or for unknown families, settings that are unknown or not
            supported, missing or left-over weights, wrong shapes, pickled weights, and tasks without weights.

    Example:
    >>> from keras_attn import pretrained
    >>> loaded = pretrained.load("none")
    Traceback (most recent call last):
        ...
    ValueError: `folder` must be a folder with config.json and *.safetensors, nothing is downloaded. Received: none.
    """
    path = check_folder(folder)
    check_positive("max_length", max_length, optional=True)
    check_positive("num_labels", num_labels, optional=True)
    sentences = read_sentence_model(path)
    inner = path if (path / "config.json").is_file() or sentences is None else sentences.folder
    config = read_json(inner / "config.json")
    family = family_of(config)
    settings = read_settings(config, family)
    task = task_of(task, config, sentences is not None, family)
    if num_labels is not None and task not in LABELLED:
        raise ValueError(f"`num_labels` is for the tasks {list(LABELLED)}. Received: task={task!r}.")
    checkpoint = Checkpoint(inner, family.prefixes, family.fallbacks)
    settings["tie_word_embeddings"] = is_tied(settings, family, checkpoint, task)
    labels = labels_for(settings, task, num_labels)
    head, table = head_of(settings, family, task, len(labels), sentences)
    if num_labels is not None:
        table = trained_part(table, checkpoint)
    table = family.weights(settings) | table
    check_weights(table, checkpoint, family.is_known)
    maps = sentences.maps if sentences is not None and task == "embedding" else {}
    for name, (part, entry) in maps.items():
        check_weights({name: entry}, part)
    tokenizer = TokenizerFolder(inner)
    special_ids = tokenizer.special_ids(config)
    check_padding(settings, special_ids, family)
    limits = [family.max_length(settings), tokenizer.max_length, sentences.max_length if sentences else None]
    length = length_of(max_length, limits)
    with dtype_policy(dtype):
        model = family.recipe(**family.arguments(settings), head=head, special_ids=special_ids)
    assign_weights(model, table, checkpoint, verbose)
    for name, (part, entry) in maps.items():
        assign_weights(model, {name: entry}, part)
    source_text = tokenizer.make(length, special_ids)
    activation = activation_of_labels(settings, len(labels)) if labels else "linear"
    return Pretrained(model, task, source_text, source_text, special_ids, None, labels, activation, family.name)


def is_tied(settings: Settings, family: Family, checkpoint: Checkpoint, task: str) -> bool:
    """Returns whether the embeddings are the matrix of the logits.

    As in transformers, two different matrices in the checkpoint are not tied, whatever the config says.
    """
    if task != "masked_words" or not settings["tie_word_embeddings"]:
        return bool(settings["tie_word_embeddings"])
    return all(checkpoint.equal(name, other) for name, other in family.tied.items())


def labels_for(settings: Settings, task: str, num_labels: int | None) -> tuple[str, ...]:
    """Returns the labels of a task; a new head has those of the config if their number is the same."""
    if task not in LABELLED:
        return ()
    labels = labels_of(settings)
    if num_labels is None or num_labels == len(labels):
        return labels
    return tuple(f"LABEL_{i}" for i in range(num_labels))


def head_of(
    settings: Settings, family: Family, task: str, num_labels: int, sentences: SentenceModel | None
) -> tuple[Head, Table]:
    """Returns the head of a task and the table of its weights."""
    if task == "hidden_states":
        return HiddenStates(), {}
    if task == "embedding":
        return SentenceEmbedding(Mean(), normalize=False) if sentences is None else sentences.head, {}
    return family.heads[task](settings, num_labels)


def trained_part(table: Table, checkpoint: Checkpoint) -> Table:
    """Returns the entries of a head without `labels` that the checkpoint has, for a head with new labels."""
    return {
        path: entry
        for path, entry in table.items()
        if path != "labels" and all(checkpoint.shapes.get(name) == shape for name, shape in entry.shapes().items())
    }


def check_padding(settings: Settings, special_ids: SpecialIds, family: Family) -> None:
    """Raises a `ValueError` if positions depend on a padding id that is not that of the tokenizer."""
    padding = settings["pad_token_id"]
    if family.positions_of_padding and (padding is None or padding != special_ids.padding):
        raise ValueError(
            f"`pad_token_id` of config.json must be the id of the tokenizer's padding, {special_ids.padding}, for the "
            f"family {family.name!r}, which counts positions by it. Received: pad_token_id={padding}."
        )


def length_of(max_length: int | None, limits: Sequence[int | None]) -> int:
    """Returns the greatest number of ids of a text; the first limit is the number of positions."""
    if max_length is None:
        return min(limit for limit in limits if limit is not None)
    if limits[0] is not None and max_length > limits[0]:
        raise ValueError(f"`max_length` must be at most {limits[0]}, the model's positions. Received: {max_length}.")
    return max_length


@contextlib.contextmanager
def dtype_policy(dtype: DType) -> Iterator[None]:
    """Makes `dtype` the global dtype policy inside the block; None changes nothing."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if dtype is None else dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
