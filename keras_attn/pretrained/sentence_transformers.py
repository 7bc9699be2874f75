"""Folders of sentence-transformers: their modules become a head."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_attn.models.heads import SentenceEmbedding, Transform
from keras_attn.models.pooling import First, Last, Max, Mean, MeanSqrtLength, PoolingKind, WeightedMean
from keras_attn.pretrained.checkpoint import Checkpoint
from keras_attn.pretrained.files import read_json
from keras_attn.pretrained.tables import Linear

KINDS: dict[str, PoolingKind] = {  # in the order in which sentence-transformers joins them
    "cls": First(),
    "max": Max(),
    "mean": Mean(),
    "mean_sqrt_len_tokens": MeanSqrtLength(),
    "weightedmean": WeightedMean(),
    "lasttoken": Last(),
}
FLAGS = {  # the older form of 1_Pooling/config.json
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS = {"Tanh": "tanh", "Identity": None, "ReLU": "relu", "GELU": "gelu", "SiLU": "silu", "Sigmoid": "sigmoid"}


@dataclasses.dataclass(frozen=True)
class SentenceModel:
    """What a folder of sentence-transformers says.

    Attributes:
        folder: The folder of the encoder.
        head: The head.
        maps: The checkpoint and the entry of each linear map behind the pooling, by the name of our layer.
        max_length: Greatest number of ids of a text, or None.
    """

    folder: pathlib.Path
    head: SentenceEmbedding
    maps: Mapping[str, tuple[Checkpoint, Linear]]
    max_length: int | None


def read_sentence_model(folder: pathlib.Path) -> SentenceModel | None:
    """Returns what `modules.json` says, or None for a folder without it, or of a cross-encoder.

    Raises:
        ValueError: For modules and settings that are not supported.
    """
    general = read_json(folder / "config_sentence_transformers.json", optional=True)
    if not (folder / "modules.json").is_file() or general.get("model_type") == "CrossEncoder":
        return None
    if general.get("default_prompt_name") is not None:
        raise ValueError(
            f"{folder} puts a prompt before every text, which is not supported: set it to null and add the prompt to "
            f"the texts. Received: default_prompt_name={general['default_prompt_name']!r}."
        )
    modules = [(kind_of(each), folder / str(each.get("path", ""))) for each in read_json(folder / "modules.json")]
    names = [kind for kind, _ in modules]
    after = names[2:]
    if (
        names[:2] != ["Transformer", "Pooling"]
        or [n for n in after if n not in ("Dense", "Normalize")]
        or ("Normalize" in after[:-1])
    ):
        raise ValueError(
            "modules.json must name a Transformer, a Pooling, any number of Dense, and at the end a Normalize or "
            f"none. Received: {names}."
        )
    transforms, maps = [], {}
    for i, (_, path) in enumerate(modules[2 : 2 + after.count("Dense")]):
        transform, checkpoint, entry = dense_of(path)
        transforms.append(transform)
        maps[f"map_{i}"] = (checkpoint, entry)
    head = SentenceEmbedding(pooling_of(modules[1][1]), transforms, normalize="Normalize" in after)
    inner = modules[0][1]
    settings = read_json(inner / "sentence_bert_config.json", optional=True)
    if settings.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise ValueError(
            f"`transformer_task` must be 'feature-extraction'. Received: {settings['transformer_task']!r}."
        )
    if settings.get("do_lower_case"):
        raise ValueError(
            f"{inner / 'sentence_bert_config.json'} must have do_lower_case=false: the tokenizer decides. "
            f"Received: do_lower_case={settings['do_lower_case']}."
        )
    return SentenceModel(inner, head, maps, settings.get("max_seq_length"))


def kind_of(module: Mapping[str, Any]) -> str:
    """Returns the class name of a module of sentence-transformers; others are refused."""
    name = str(module.get("type"))
    if not name.startswith("sentence_transformers."):
        raise ValueError(f"modules.json must name modules of sentence_transformers only. Received: {name!r}.")
    return name.rpartition(".")[2]


def pooling_of(folder: pathlib.Path) -> PoolingKind | list[PoolingKind]:
    """Returns the pooling of `1_Pooling/config.json`, in its older form or the current one."""
    config = dict(read_json(folder / "config.json"))
    known = {*FLAGS, "word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"}
    unknown = sorted(set(config) - known)
    if unknown:
        raise ValueError(f"{folder / 'config.json'} must have the settings {sorted(known)}. Received: {unknown}.")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in FLAGS.items() if config.get(flag)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else list(modes)
    wrong = [mode for mode in modes if mode not in KINDS]
    if wrong or not modes:
        raise ValueError(f"`pooling_mode` of {folder / 'config.json'} must be of {sorted(KINDS)}. Received: {modes}.")
    kinds = [KINDS[mode] for mode in modes]
    return kinds if len(kinds) > 1 else kinds[0]


def dense_of(folder: pathlib.Path) -> tuple[Transform, Checkpoint, Linear]:
    """Returns the linear map of a folder `2_Dense`."""
    config = read_json(folder / "config.json")
    names = ("module_input_name", "module_output_name")
    wrong = {name: config[name] for name in names if config.get(name) not in (None, "sentence_embedding")}
    wrong |= {name: config[name] for name in ("use_residual",) if config.get(name)}
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        wrong["activation_function"] = config["activation_function"]
    if wrong:
        raise ValueError(f"{folder / 'config.json'} has settings that are not supported. Received: {wrong}.")
    inputs, outputs, bias = config["in_features"], config["out_features"], config.get("bias", True)
    transform = Transform(outputs, ACTIVATIONS[activation], use_bias=bias)
    return transform, Checkpoint(folder), Linear("linear", inputs, outputs, bias)
