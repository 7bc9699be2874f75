"""The special ids of models that generate texts, as they are: padding that does not exist, a start that is the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_attn.base.special_ids import SpecialIds
from keras_attn.pretrained.tokenizer import NAMES, TokenizerFolder, content

TOKENS = {"pad_token_id": "pad_token", "bos_token_id": "bos_token", "eos_token_id": "eos_token"}


def generating_special_ids(
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    tokenizer: TokenizerFolder,
    vocabulary_size: int,
    reads_prompts: bool,
) -> SpecialIds:
    """Returns the special ids of a model that generates texts.

    They are those of the generation settings, or else of the config, or else of the tokenizer; an id that the model
    has no embedding for does not count. A padding id that is the first end id is no padding: texts then have
    explicit lengths.

    Args:
        config: Contents of config.json.
        generation: The generation settings.
        tokenizer: The tokenizer's files.
        vocabulary_size: Number of ids of the model.
        reads_prompts: Whether the model continues prompts; if not, its decoder begins with
            `decoder_start_token_id`.

    Raises:
        ValueError: If there is no end id.
    """
    ids = tokenizer.token_ids

    def find(name: str) -> list[int]:
        for settings in (generation, config):
            found = settings.get(name)
            found = found if isinstance(found, (list, tuple)) else [found]
            found = [each for each in found if each is not None and 0 <= each < vocabulary_size]
            if found:
                return found
        token = tokenizer.settings.get(TOKENS.get(name, ""))
        found = None if token is None else ids.get(content(token))
        return [] if found is None or found >= vocabulary_size else [found]

    ends = find("eos_token_id")
    if not ends:
        raise ValueError(
            "`eos_token_id` must be in generation_config.json or config.json: the id that ends a text. Received: none."
        )
    end, *others = ends
    padding = next((each for each in find("pad_token_id") if each != end), None)
    starts = [*([] if reads_prompts else find("decoder_start_token_id")), *find("bos_token_id"), end]
    unknown = unknown_id(tokenizer, ids)
    unknown = None if unknown in (padding, starts[0], end) else unknown
    return SpecialIds(padding, starts[0], end, unknown, tuple(others))


def unknown_id(tokenizer: TokenizerFolder, ids: Mapping[str, int]) -> int | None:
    """Returns the id of unknown tokens, or None for a vocabulary that has a token for every byte."""
    token = tokenizer.settings.get("unk_token")
    named = [] if token is None else [content(token)]
    return next((ids[each] for each in (*named, *NAMES["unknown"][1]) if each in ids), None)
