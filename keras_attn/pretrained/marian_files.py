"""The tokenizer's files of a Marian model: two SentencePiece models and one vocabulary, or two."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_attn.base.special_ids import SpecialIds
from keras_attn.text import MarianTokenizer

SPECIAL = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
MODELS = "source.spm", "target.spm"
FLAGS = "lstrip", "rstrip", "single_word"


@dataclasses.dataclass(frozen=True)
class MarianFiles:
    """The files of a Marian model's tokenizer.

    Attributes:
        models: The SentencePiece models of source and target.
        source, target: The ids by their tokens.
        special: The special tokens.
    """

    models: tuple[bytes, bytes]
    source: dict[str, int]
    target: dict[str, int]
    special: tuple[str, ...]

    @classmethod
    def read(cls, folder: pathlib.Path, settings: Mapping[str, Any]) -> MarianFiles | None:
        """Returns the files of a folder, or None if it is not a Marian model's.

        Raises:
            ValueError: If files are missing, or there are more tokens than those of the vocabulary.
        """
        if not (folder / MODELS[0]).is_file():
            return None
        separate = bool(settings.get("separate_vocabs"))
        names = (*MODELS, "vocab.json", *(["target_vocab.json"] if separate else []))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"`folder` must have all files of its tokenizer. Missing: {missing}.")
        source_model, target_model = ((folder / name).read_bytes() for name in MODELS)
        source, target = (json.loads((folder / name).read_text("utf-8")) for name in (names[2], names[-1]))
        special = special_tokens(settings)
        unknown = [token for token in special if token not in source or target.get(token) != source[token]]
        if unknown:
            raise ValueError(
                "Special tokens of tokenizer_config.json must be in the vocabularies, with the same ids. "
                f"Received: {unknown}."
            )
        return cls((source_model, target_model), source, target, special)

    def make(self, max_length: int, special_ids: SpecialIds, prefix: str) -> tuple[MarianTokenizer, MarianTokenizer]:
        """Returns the tokenizers of source and target; only the source has the prefix."""
        make = functools.partial(
            MarianTokenizer, max_length=max_length, special_ids=special_ids, special_tokens=self.special
        )
        return make(self.models[0], self.source, prefix=prefix), make(self.models[1], self.target)


def special_tokens(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the special tokens of tokenizer_config.json, or raises a `ValueError` for those that take spaces."""
    more = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    more = list(more.values()) if isinstance(more, Mapping) else more
    added = settings.get("added_tokens_decoder") or {}
    given = [*(settings.get(name) or usual for name, usual in SPECIAL.items()), *more, *added.values()]
    for token in given:
        if isinstance(token, Mapping) and any(token.get(flag) for flag in FLAGS):
            raise ValueError(f"Special tokens of tokenizer_config.json must not have {FLAGS}. Received: {token}.")
    return tuple(dict.fromkeys(token if isinstance(token, str) else token["content"] for token in given))
