"""What a folder of a pretrained model contains, read and checked before anything is built."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from keras_attn.base.special_ids import SpecialIds
from keras_attn.pretrained.checkpoint import Checkpoint
from keras_attn.pretrained.families import family_of
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.files import read_json
from keras_attn.pretrained.generation import generation_settings
from keras_attn.pretrained.heads import check_generates
from keras_attn.pretrained.sentence_transformers import SentenceModel, read_sentence_model
from keras_attn.pretrained.settings import Settings, read_settings
from keras_attn.pretrained.special_ids import generating_special_ids
from keras_attn.pretrained.tokenizer import TokenizerFolder


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder of transformers or sentence-transformers.

    Attributes:
        folder: The folder of the model and its tokenizer.
        config: Contents of `config.json`.
        family: The family of the config.
        settings: The settings of the config.
        checkpoint: The weights.
        sentences: What `modules.json` says, or None.
        tokenizer: The tokenizer's files.
        special_ids: The special ids.
        generation: The generation settings of a family that generates: generation_config.json, or config.json.
    """

    folder: pathlib.Path
    config: dict[str, Any]
    family: Family
    settings: Settings
    checkpoint: Checkpoint
    sentences: SentenceModel | None
    tokenizer: TokenizerFolder
    special_ids: SpecialIds
    generation: dict[str, Any]

    @classmethod
    def read(cls, folder: str | pathlib.Path) -> Folder:
        """Reads a folder; weights are only listed. Raises a `ValueError` for what is missing or not supported."""
        path = pathlib.Path(folder).expanduser()
        if not path.is_dir():
            raise ValueError(
                "`folder` must be a folder with config.json and *.safetensors, nothing is downloaded. "
                f"Received: {folder}."
            )
        sentences = read_sentence_model(path)
        inner = path if (path / "config.json").is_file() or sentences is None else sentences.folder
        config = read_json(inner / "config.json")
        family = family_of(config)
        settings = read_settings(config, family)
        tokenizer = TokenizerFolder(inner)
        generation: dict[str, Any] = {}
        if family.generates:
            generation = read_json(inner / "generation_config.json", optional=True) or generation_settings(config)
            prompts = family.generates == "text_generation"
            size = settings["vocab_size"]
            special_ids = generating_special_ids(config, generation, tokenizer, size, prompts)
        else:
            special_ids = tokenizer.special_ids({**config, "pad_token_id": settings["pad_token_id"]})
        check_padding(settings, special_ids, family)
        checkpoint = Checkpoint(inner, family.prefixes, family.fallbacks)
        return cls(inner, config, family, settings, checkpoint, sentences, tokenizer, special_ids, generation)

    def generation_of(self, task: str | None) -> tuple[str, str, dict[str, Any]]:
        """Returns the kind of a task, the prefix of its texts, and its generation settings.

        Args:
            task: `"text_to_text"`, `"text_generation"`, one of `task_specific_params`, or None.
        """
        check_generates(self.config, self.family)
        kind, own = str(self.family.generates), self.config.get("task_specific_params") or {}
        if task not in (None, kind, *own):
            raise ValueError(
                f"`task` must be one of {[kind, *own]} for the family {self.family.name!r}. Received: task={task!r}."
            )
        settings = {**self.generation, **own.get(task, {})}
        return kind, settings.pop("prefix", None) or "", settings

    def max_length(self, wanted: int | None) -> int:
        """Returns the greatest number of ids of a text: `wanted`, or the smallest of the folder's limits."""
        positions = self.family.max_length(self.settings)
        if wanted is None:
            limits = (positions, self.tokenizer.max_length, self.sentences.max_length if self.sentences else None)
            return min(limit for limit in limits if limit is not None)
        if wanted > positions:
            raise ValueError(f"`max_length` must be at most {positions}, the model's positions. Received: {wanted}.")
        return wanted


def check_padding(settings: Settings, special_ids: SpecialIds, family: Family) -> None:
    """Raises a `ValueError` if positions depend on a padding id that is not that of the tokenizer."""
    padding = settings["pad_token_id"]
    if family.positions_of_padding and (padding is None or padding != special_ids.padding):
        raise ValueError(
            f"`pad_token_id` of config.json must be the id of the tokenizer's padding, {special_ids.padding}, for the "
            f"family {family.name!r}, which counts positions by it. Received: pad_token_id={padding}."
        )
