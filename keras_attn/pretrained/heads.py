"""The task of a checkpoint, its labels, and the activation from logits to scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_attn.pretrained.family import Family
from keras_attn.pretrained.settings import Settings

TASKS = "hidden_states", "embedding", "classification", "token_classification", "masked_words"  # of encoders
# The last part of a class name of transformers, which starts with the name of the family.
ARCHITECTURES = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token_classification",
    "ForMaskedLM": "masked_words",
    "ForPreTraining": "masked_words",
    "Model": "hidden_states",
}
GENERATING_ARCHITECTURES = "ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel", "Model"
CROSS_ENCODER_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "linear",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}
ACTIVATIONS = {
    "regression": "linear",
    "multi_label_classification": "sigmoid",
    "single_label_classification": "softmax",
}


def task_of(task: str | None, config: Mapping[str, Any], is_sentence_model: bool, family: Family) -> str:
    """Returns the task to load: the given one, or that of the checkpoint.

    Args:
        task: One of `TASKS`, or None.
        config: The checkpoint's config.
        is_sentence_model: Whether the folder is one of sentence-transformers.
        family: The family.

    Raises:
        ValueError: For an unknown task, one that the family lacks, or an architecture without one.
    """
    if task is None:
        task = "embedding" if is_sentence_model else _task_of_architecture(config)
    known = [name for name in TASKS if name in ("hidden_states", "embedding") or name in family.heads]
    if task not in known:
        raise ValueError(f"`task` must be one of {known} for the family {family.name!r}. Received: task={task!r}.")
    return task


def _task_of_architecture(config: Mapping[str, Any]) -> str:
    """Returns the task of the class that saved the checkpoint."""
    names = config.get("architectures") or ["Model"]
    for end, task in ARCHITECTURES.items():
        if names[0].endswith(end):
            return task
    raise ValueError(
        f"`task` must be given for a model without a supported head, for example task='hidden_states'. "
        f"Received: architectures={names}."
    )


def check_generates(config: Mapping[str, Any], family: Family) -> None:
    """Raises a `ValueError` for a checkpoint whose head generates no texts, of a family that does."""
    names = config.get("architectures") or ["Model"]
    if not names[0].endswith(GENERATING_ARCHITECTURES):
        raise ValueError(
            f"config.json of the family {family.name!r} must be that of a model that generates texts. "
            f"Received: architectures={names}."
        )


def labels_of(settings: Settings) -> tuple[str, ...]:
    """Returns the labels in the order of the logits: those of `id2label`, or `LABEL_0`, `LABEL_1`, ..."""
    names = settings["id2label"]
    if not names:
        number = settings["num_labels"] if settings["num_labels"] is not None else 2
        return tuple(f"LABEL_{i}" for i in range(number))
    by_id = {int(i): str(label) for i, label in names.items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise ValueError(f"`id2label` of config.json must have the ids 0, 1, 2, ... Received: {sorted(by_id)}.")
    return tuple(by_id[i] for i in range(len(by_id)))


def activation_of_labels(settings: Settings, num_labels: int) -> str:
    """Returns the activation from logits to scores, of a cross-encoder or as transformers' pipeline chooses it."""
    own = cross_encoder_activation(settings)
    if own is not None:
        if own not in CROSS_ENCODER_ACTIVATIONS:
            raise ValueError(
                f"The activation of a cross-encoder in config.json must be one of {sorted(CROSS_ENCODER_ACTIVATIONS)}. "
                f"Received: {own!r}."
            )
        return CROSS_ENCODER_ACTIVATIONS[own]
    problem = settings["problem_type"]
    if problem is not None and problem not in ACTIVATIONS:
        raise ValueError(
            f"`problem_type` of config.json must be one of {sorted(ACTIVATIONS)} or null. Received: {problem!r}."
        )
    if problem is None:
        return "sigmoid" if num_labels == 1 else "softmax"
    if problem == "single_label_classification" and num_labels == 1:
        return "sigmoid"
    return ACTIVATIONS[problem]


def cross_encoder_activation(settings: Settings) -> str | None:
    """Returns the activation that sentence-transformers stores for a cross-encoder, under its new or its old name."""
    stored = settings["sentence_transformers"] or {}
    return stored.get("activation_fn", settings["sbert_ce_default_activation_function"])
