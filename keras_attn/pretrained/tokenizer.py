"""The tokenizer of a folder, and the ids of its special tokens."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from keras_attn.base.special_ids import SpecialIds
from keras_attn.pretrained.files import read_json
from keras_attn.pretrained.marian_files import MarianFiles
from keras_attn.text import Chat, PretrainedTokenizer, Tokenizer
from keras_attn.text.tokenizer_json import from_merges, from_sentence_piece, from_vocabulary

# Names of special tokens in tokenizer_config.json, and what they are if it does not say.
NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "padding": (("pad_token",), ("[PAD]", "<pad>")),
    "start": (("cls_token", "bos_token"), ("[CLS]", "<s>")),
    "end": (("sep_token", "eos_token"), ("[SEP]", "</s>")),
    "unknown": (("unk_token",), ("[UNK]", "<unk>")),
}
CONFIG_NAMES = {  # the same ids in config.json
    "padding": ("pad_token_id",),
    "start": ("cls_token_id", "bos_token_id"),
    "end": ("sep_token_id", "eos_token_id"),
    "unknown": ("unk_token_id",),
}


ALIASES = {"mistral": "llama", "mt5": "t5", "gemma2": "gemma", "gemma3": "gemma", "gemma3_text": "gemma"}
"""Types of models that have the tokenizer of another one."""


class TokenizerFolder:
    """The tokenizer's files in a folder.

    Attributes:
        settings: Contents of `tokenizer_config.json` and `special_tokens_map.json`.
        spec: Bytes of the tokenizer.json, or None for a folder without one.
        marian: The tokenizer's files of a Marian model, or None.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        special = read_json(folder / "special_tokens_map.json", optional=True)
        self.settings: dict[str, Any] = special | read_json(folder / "tokenizer_config.json", optional=True)
        self.spec: bytes | None = None
        self.marian = MarianFiles.read(folder, self.settings)
        if (folder / "tokenizer.json").is_file():
            self.spec = (folder / "tokenizer.json").read_bytes()
        elif self.marian is None:
            self.spec = spec_of(folder, self.settings)

    @property
    def max_length(self) -> int | None:
        """Greatest number of ids of a text that the tokenizer's settings allow, or None."""
        length = self.settings.get("model_max_length", self.settings.get("max_len"))
        return int(length) if isinstance(length, (int, float)) and length < 2**31 else None

    @property
    def token_ids(self) -> dict[str, int]:
        """The ids of all tokens by their strings."""
        return token_ids(self.spec) if self.marian is None else self.marian.source

    def special_ids(self, config: dict[str, Any]) -> SpecialIds:
        """Returns the special ids: those of the tokenizer, or without one those of `config`.

        Without a tokenizer, start and end may be unknown; they are then ids without a meaning for the model.
        """
        ids = self.token_ids
        found = {}
        for role, (names, usual) in NAMES.items():
            named = [content(self.settings[name]) for name in names if self.settings.get(name)]
            candidates = [ids[token] for token in (*named, *usual) if token in ids]
            if not candidates:
                candidates = [config[name] for name in CONFIG_NAMES[role] if isinstance(config.get(name), int)]
            found[role] = candidates[0] if candidates else None
        padding, end, unknown = found["padding"], found["end"], found["unknown"]
        end = end if end is not None else next(i for i in range(3) if i not in (padding, unknown))
        start = found["start"] if found["start"] is not None else (end if padding is None else padding)
        return SpecialIds(padding, start, end, None if unknown in (padding, start, end) else unknown)

    def make(
        self, max_length: int, special_ids: SpecialIds, prefix: str = "", chat: Chat | None = None
    ) -> tuple[Tokenizer | None, Tokenizer | None]:
        """Returns the tokenizers of source and target, or None for a folder without them."""
        if self.marian is not None:
            return self.marian.make(max_length, special_ids, prefix)
        if self.spec is None:
            return None, None
        tokenizer = PretrainedTokenizer(
            self.spec, max_length=max_length, special_ids=special_ids, prefix=prefix, chat=chat
        )
        return tokenizer, tokenizer


def spec_of(folder: pathlib.Path, settings: dict[str, Any]) -> bytes | None:
    """Returns the bytes of a tokenizer.json that is made from a folder's older files, or None without these."""
    if (folder / "vocab.txt").is_file():
        return from_vocabulary(folder / "vocab.txt", settings)
    added = read_json(folder / "added_tokens.json", optional=True)
    settings = {"added_tokens_decoder": {number: token for token, number in added.items()}, **settings}
    merges = folder / "vocab.json", folder / "merges.txt"
    if all(path.is_file() for path in merges):
        return from_merges(*merges, kind_of(folder, settings), settings)
    models = [folder / name for name in ("spiece.model", "tokenizer.model") if (folder / name).is_file()]
    return from_sentence_piece(models[0], kind_of(folder, settings), settings) if models else None


def kind_of(folder: pathlib.Path, settings: dict[str, Any]) -> str:
    """Returns the kind of a tokenizer: what its class is named for, or else the type of the model."""
    config = read_json(folder / "config.json", optional=True)
    named = settings.get("tokenizer_class") or config.get("tokenizer_class") or ""
    kind = named.removesuffix("Fast").removesuffix("Tokenizer").lower()
    kind = kind if kind not in ("", "pretrained") else str(config.get("model_type", ""))
    return ALIASES.get(kind, kind)


def content(token: str | dict[str, Any]) -> str:
    """Returns the string of a special token of tokenizer_config.json."""
    return token if isinstance(token, str) else token["content"]


def token_ids(spec: bytes | None) -> dict[str, int]:
    """Returns the ids of all tokens of a tokenizer.json by their strings."""
    if spec is None:
        return {}
    tokenizer = json.loads(spec)
    vocabulary = tokenizer["model"].get("vocab", {})
    pairs = (
        vocabulary.items() if isinstance(vocabulary, dict) else ((piece, i) for i, (piece, _) in enumerate(vocabulary))
    )
    return dict(pairs) | {token["content"]: token["id"] for token in tokenizer.get("added_tokens", ())}
