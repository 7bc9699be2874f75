"""The special ids of a tokenizer.json."""

from __future__ import annotations

from keras_attn.base.special_ids import SpecialIds
from keras_attn.text.tokenizer_json.pipeline import Pipeline

PADDING_TOKENS = ("[PAD]", "<pad>", "<|padding|>", "<|pad|>")
START_TOKENS = ("[CLS]", "<s>", "<bos>", "<|startoftext|>", "<|begin_of_text|>", "<|endoftext|>")
END_TOKENS = ("[SEP]", "</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>")
MASK_TOKENS = ("[MASK]", "<mask>")


def derived_special_ids(pipeline: Pipeline) -> SpecialIds:
    """Returns the special ids that a file implies.

    Raises:
        ValueError: If nothing in the file says which id starts a text, or which ends it.
    """
    around = [part for part, _ in pipeline.template.single if part >= 0]
    named = (pipeline.padding or {}).get("pad_id")
    padding = named if named is not None else token_id(pipeline, PADDING_TOKENS)
    start = around[0] if around else token_id(pipeline, START_TOKENS)
    end = around[-1] if around else token_id(pipeline, END_TOKENS)
    if start is None or end is None:
        raise ValueError(
            "`special_ids` must be given for a tokenizer.json without special tokens around a text. "
            f"Received: special_ids=None, start={start}, end={end}."
        )
    distinct = padding if padding not in (end, pipeline.unknown) else None
    unknown = pipeline.unknown if pipeline.unknown not in (start, end) else None
    return SpecialIds(padding=distinct, start=start, end=end, unknown=unknown)


def mask_token(pipeline: Pipeline) -> int | None:
    """Returns the id of the token that stands for a masked word, or None."""
    return token_id(pipeline, MASK_TOKENS)


def token_id(pipeline: Pipeline, names: tuple[str, ...]) -> int | None:
    """Returns the id of the first of the names that is an added token or in the vocabulary, or None."""
    added = {token.content: token.id for token in pipeline.added}
    ids = (added.get(name, pipeline.vocabulary.get(name)) for name in names)
    return next((number for number in ids if number is not None), None)
