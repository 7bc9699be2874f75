"""The tokenizer.json of a model that has only the vocabulary of BERT, `vocab.txt`, and its settings."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def from_vocabulary(vocab_txt: str | os.PathLike[str], settings: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a tokenizer.json.

    Args:
        vocab_txt: Path of a file with one token per line, in the order of the ids.
        settings: The contents of `tokenizer_config.json`: `do_lower_case` (True by default),
            `tokenize_chinese_chars` (True), `strip_accents` (None), and the names of the special tokens.

    Raises:
        ValueError: If the vocabulary has not the special tokens.
    """
    lines = pathlib.Path(vocab_txt).read_text("utf-8").split("\n")
    if lines[-1] == "":
        lines.pop()
    vocabulary = {line.rstrip("\r"): index for index, line in enumerate(lines)}
    special = {name: token_text(settings.get(name) or default) for name, default in TOKENS.items()}
    missing = sorted(set(special.values()) - set(vocabulary))
    if missing:
        raise ValueError(f"`vocab_txt` must contain the special tokens of `settings`. Missing: {missing}.")
    lowercase = bool(settings.get("do_lower_case", True))
    start, end = special["cls_token"], special["sep_token"]
    spec = {
        "version": "1.0",
        "added_tokens": [added_token(token, vocabulary[token]) for token in special.values()],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(settings.get("tokenize_chinese_chars", True)),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "BertProcessing",
            "cls": [start, vocabulary[start]],
            "sep": [end, vocabulary[end]],
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": special["unk_token"], "vocab": vocabulary},
    }
    return json.dumps(spec, ensure_ascii=False).encode()


def token_text(token: str | Mapping[str, Any]) -> str:
    """Returns the text of a token that settings give as a string or as an object."""
    return token if isinstance(token, str) else str(token["content"])


def added_token(content: str, number: int) -> dict[str, Any]:
    """Returns the object of a special token."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, "special": True, **flags}
