"""The tokenizer.json of a model that has only a SentencePiece model, and its settings."""

from __future__ import annotations

import base64
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from keras_attn.text.optional import text_module
from keras_attn.text.tokenizer_json.special_tokens import added_sections, template_section

LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
GEMMA_TOKENS = {
    "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
T5_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
KINDS = {"llama": LLAMA_TOKENS, "gemma": GEMMA_TOKENS, "t5": T5_TOKENS}
"""The special tokens of the kinds of tokenizers."""
TO_SPACES = [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
CONTROL, USER_DEFINED = 3, 4  # types of pieces


def from_sentence_piece(model: str | os.PathLike[str], kind: str, settings: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a tokenizer.json, as `transformers` 5 makes it.

    Args:
        model: Path of a SentencePiece model.
        kind: One of `KINDS`.
        settings: The contents of `tokenizer_config.json`: `extra_ids`, `add_prefix_space`, `add_bos_token`,
            `add_eos_token`, and the special tokens.

    Raises:
        ValueError: For another kind.
    """
    if kind not in KINDS:
        raise ValueError(
            f"A tokenizer with only a SentencePiece model must be one of {sorted(KINDS)}, or have a tokenizer.json, "
            "which `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of transformers writes. "
            f"Received: {kind!r}."
        )
    proto = text_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
    proto.ParseFromString(pathlib.Path(model).read_bytes())
    own = {piece.piece: piece.type == CONTROL for piece in proto.pieces if piece.type in (CONTROL, USER_DEFINED)}
    spec = (unigram if kind == "t5" else byte_pairs)(proto, kind, settings, own)
    return json.dumps({"version": "1.0", **spec}, ensure_ascii=False).encode()


def unigram(proto: Any, kind: str, settings: Mapping[str, Any], own: dict[str, bool]) -> dict[str, Any]:
    """Returns the sections of T5."""
    sentinels = tuple(f"<extra_id_{number}>" for number in reversed(range(int(settings.get("extra_ids", 100)))))
    known = {piece.piece for piece in proto.pieces}
    vocabulary = [[piece.piece, piece.score] for piece in proto.pieces]
    vocabulary += [[token, 0.0] for token in sentinels if token not in known]
    ids = {token: number for number, (token, _) in enumerate(vocabulary)}
    added = added_sections(ids, settings, KINDS[kind], own | dict.fromkeys(sentinels, True))
    words = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    rules = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    return {
        "added_tokens": added,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": rules} if rules else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, words]},
        "post_processor": template_section(
            added, {**settings, "add_bos_token": False, "add_eos_token": True}, T5_TOKENS
        ),
        "decoder": words,
        "model": {"type": "Unigram", "vocab": vocabulary, "unk_id": proto.trainer_spec.unk_id},
    }


def byte_pairs(proto: Any, kind: str, settings: Mapping[str, Any], own: dict[str, bool]) -> dict[str, Any]:
    """Returns the sections of Llama and Gemma."""
    vocabulary = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    added = added_sections(vocabulary, settings, KINDS[kind], own)
    spaced = settings.get("add_prefix_space") is not False
    scheme = ("always" if settings.get("legacy") else "first") if spaced else "never"
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    words: dict[str, Any] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    normalizer = None
    if kind == "gemma":
        normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        words = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    unknown = "<unk>" if kind == "gemma" else None
    return {
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": words,
        "post_processor": template_section(added, settings, KINDS[kind]),
        "decoder": {"type": "Sequence", "decoders": [*TO_SPACES, *([strip] if spaced and kind == "llama" else [])]},
        "model": {
            "type": "BPE", "vocab": vocabulary, "merges": merges_of(vocabulary), "unk_token": unknown,
            "fuse_unk": True, "byte_fallback": True,
        },
    }  # fmt: skip


def merges_of(vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Returns the merges that make the tokens of a vocabulary, in the order of their ids."""
    merges = [(token, pair) for token in vocabulary for pair in splits_of(token) if set(pair) <= vocabulary.keys()]
    return [pair for token, pair in sorted(merges, key=lambda each: (vocabulary[each[0]], len(each[1][0])))]


def splits_of(token: str) -> Iterable[tuple[str, str]]:
    """Yields all ways to cut a token in two."""
    return ((token[:size], token[size:]) for size in range(1, len(token)))
