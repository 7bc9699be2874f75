"""What the loader knows of a family of checkpoints: tables from its config and its weights to ours."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras

from keras_attn import models
from keras_attn.models.heads import Head
from keras_attn.models.language_head import LanguageHead
from keras_attn.pretrained.settings import Settings
from keras_attn.pretrained.tables import Table

HeadOf: TypeAlias = Callable[[Settings, int], tuple[Head | LanguageHead, Table]]
"""From the settings and the number of labels to a head and the table of its weights."""


GENERATING = "text_generation", "text_to_text"
"""The tasks that generate texts."""


@dataclasses.dataclass(frozen=True)
class Family:
    """Everything that the loader knows of a family.

    Attributes:
        name: The `model_type` of the config.
        prefixes: Names of the encoder, which stand before the names of its weights in a model with a head.
        defaults: The settings that the family reads, with the defaults of its config class.
        arguments: Function from the settings to the arguments of the recipe, without head and special ids.
        weights: Function from the settings to the table of the encoder's weights.
        heads: The heads by task. A family that generates has one task: `"text_generation"` for decoders,
            `"text_to_text"` for encoder-decoders.
        known: Regular expression of weights that a task may leave unread: those of other heads, and buffers.
        max_length: Function from the settings to the number of positions.
        names: Dictionary from the config's names of settings to those of `defaults`, where they differ.
        tied: Names of weights that equal others if `tie_word_embeddings`, as a dictionary to the names of those.
        fallbacks: As for `Checkpoint`.
        fixed: Settings with the values that are supported.
        positions_of_padding: Whether positions count the ids that are not padding.
        ignored: Settings that do not change the numbers of a forward pass.
        recipe: The recipe.
    """

    name: str
    prefixes: tuple[str, ...]
    defaults: Mapping[str, Any]
    arguments: Callable[[Settings], dict[str, Any]]
    weights: Callable[[Settings], Table]
    heads: Mapping[str, HeadOf]
    known: str
    max_length: Callable[[Settings], int] = lambda s: s["max_position_embeddings"]
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fallbacks: Mapping[str, str | tuple[str, ...]] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    positions_of_padding: bool = False
    ignored: tuple[str, ...] = ()
    recipe: Callable[..., keras.Model] = models.TextEncoder

    @property
    def generates(self) -> str | None:
        """The task of a family that generates texts, or None."""
        return next((task for task in GENERATING if task in self.heads), None)

    def is_known(self, name: str) -> bool:
        """Returns whether a weight that is not read belongs to the family."""
        return re.fullmatch(self.known, name) is not None
