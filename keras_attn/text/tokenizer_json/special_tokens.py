"""The special tokens of tokenizer_config.json, as sections of a tokenizer.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_attn.text.tokenizer_json.vocabulary import token_text

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def added_sections(
    vocabulary: Mapping[str, int],
    settings: Mapping[str, Any],
    defaults: Mapping[str, str],
    extra: Mapping[str, bool] | None = None,
) -> list[dict[str, Any]]:
    """Returns the section `added_tokens`; tokens that are not in the vocabulary follow it.

    Args:
        vocabulary: The ids by their tokens.
        settings: Contents of `tokenizer_config.json`.
        defaults: The special tokens by their names, where the settings do not say.
        extra: More tokens, and whether they are special.
    """
    named = special_tokens(settings, defaults)
    more = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    more = list(more.values()) if isinstance(more, Mapping) else more
    given = {int(number): token for number, token in (settings.get("added_tokens_decoder") or {}).items()}
    known = dict(vocabulary) | {token_text(token): number for number, token in given.items()}
    flags = {token_text(token): token for token in (*named.values(), *more, *given.values())}
    extra = {} if extra is None else extra
    texts = list(dict.fromkeys((*flags, *extra)))
    following = max(known.values(), default=-1) + 1
    for text in texts:
        if text not in known:
            known[text], following = following, following + 1
    special = {*map(token_text, (*named.values(), *more)), *(text for text, flag in extra.items() if flag)}
    found = [
        added_section(text, known[text], flags.get(text, {"normalized": False}), text in special) for text in texts
    ]
    return sorted(found, key=lambda token: int(token["id"]))


def added_section(text: str, number: int, token: str | Mapping[str, Any], special: bool) -> dict[str, Any]:
    """Returns the object of an added token."""
    given = {} if isinstance(token, str) else {name: bool(token[name]) for name in FLAGS if name in token}
    usual = {**dict.fromkeys(FLAGS, False), "normalized": not special, "special": special}
    flags = {**usual, **given}
    return {"id": number, "content": text, **flags, "special": special or flags["special"]}


def special_tokens(settings: Mapping[str, Any], defaults: Mapping[str, str]) -> dict[str, Any]:
    """Returns the special tokens by their names."""
    found = {name: settings[name] if name in settings else defaults.get(name) for name in NAMES}
    return {name: token for name, token in found.items() if token is not None}


def template_section(
    added: list[dict[str, Any]], settings: Mapping[str, Any], defaults: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the section `post_processor`: the start token if `add_bos_token`, the end token if `add_eos_token`."""
    ids = {token["content"]: token["id"] for token in added}
    named = {name: token_text(token) for name, token in special_tokens(settings, defaults).items()}
    ends = [
        named[name] if settings.get(flag) and name in named else None
        for flag, name in (("add_bos_token", "bos_token"), ("add_eos_token", "eos_token"))
    ]
    rows = [
        [
            *([{"SpecialToken": {"id": ends[0], "type_id": segment}}] if ends[0] else []),
            {"Sequence": {"id": "AB"[segment], "type_id": segment}},
            *([{"SpecialToken": {"id": ends[1], "type_id": segment}}] if ends[1] else []),
        ]
        for segment in (0, 1)
    ]
    used = {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in ends if token}
    return {"type": "TemplateProcessing", "single": rows[0], "pair": rows[0] + rows[1], "special_tokens": used}
