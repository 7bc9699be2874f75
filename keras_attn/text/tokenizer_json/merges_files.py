"""The tokenizer.json of a byte-level model that has only `vocab.json` and `merges.txt`, and its settings."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_attn.text.tokenizer_json.patterns import QWEN
from keras_attn.text.tokenizer_json.special_tokens import added_sections, special_tokens, template_section
from keras_attn.text.tokenizer_json.vocabulary import token_text

GPT2_TOKENS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
QWEN_TOKENS = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
ROBERTA_TOKENS = {
    "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>",
    "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
KINDS = {
    "gpt2": GPT2_TOKENS,
    "roberta": ROBERTA_TOKENS,
    "bart": ROBERTA_TOKENS,
    "qwen2": QWEN_TOKENS,
    "qwen3": QWEN_TOKENS,
}
"""The special tokens of the kinds of tokenizers."""


def from_merges(
    vocab_json: str | os.PathLike[str], merges_txt: str | os.PathLike[str], kind: str, settings: Mapping[str, Any]
) -> bytes:
    """Returns the bytes of a tokenizer.json.

    Args:
        vocab_json: Path of a file with the ids by their tokens.
        merges_txt: Path of a file with one merge per line, in the order of their ranks.
        kind: One of `KINDS`.
        settings: The contents of `tokenizer_config.json`: `add_prefix_space`, `add_bos_token`, `add_eos_token`, and
            the special tokens.

    Raises:
        ValueError: For another kind.
    """
    if kind not in KINDS:
        raise ValueError(
            f"A tokenizer with vocab.json and merges.txt must be one of {sorted(KINDS)}, or have a tokenizer.json, "
            "which `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of transformers writes. "
            f"Received: {kind!r}."
        )
    vocabulary: dict[str, int] = json.loads(pathlib.Path(vocab_json).read_text("utf-8"))
    lines = pathlib.Path(merges_txt).read_text("utf-8").split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    added = added_sections(vocabulary, settings, KINDS[kind])
    spaced = bool(settings.get("add_prefix_space"))
    words = {"type": "ByteLevel", "add_prefix_space": spaced, "trim_offsets": True, "use_regex": True}
    normalizer = None
    if KINDS[kind] is QWEN_TOKENS:
        split = {"type": "Split", "pattern": {"Regex": QWEN}, "behavior": "Isolated", "invert": False}
        words = {"type": "Sequence", "pretokenizers": [split, {**words, "use_regex": False}]}
        normalizer = {"type": "NFC"}
    spec = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": words,
        "post_processor": post_processor(kind, added, settings),
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }
    return json.dumps(spec, ensure_ascii=False).encode()


def post_processor(kind: str, added: list[dict[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the section of that name."""
    if KINDS[kind] is not ROBERTA_TOKENS or any(settings.get(name) is not None for name in BOS_AND_EOS):
        return template_section(added, settings, KINDS[kind])
    ids = {token["content"]: token["id"] for token in added}
    named = {name: token_text(token) for name, token in special_tokens(settings, KINDS[kind]).items()}
    ends = {name: [named[f"{name}_token"], ids[named[f"{name}_token"]]] for name in ("sep", "cls")}
    trims = bool(settings.get("trim_offsets", True))
    spaced = bool(settings.get("add_prefix_space"))
    return {"type": "RobertaProcessing", **ends, "trim_offsets": trims, "add_prefix_space": spaced}


BOS_AND_EOS = ("add_bos_token", "add_eos_token")
