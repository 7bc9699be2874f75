"""Generation from a list of texts to a list of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypedDict, cast

import keras
import tensorflow as tf
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.base.checks import check_positive
from keras_attn.base.special_ids import check_same_special_ids
from keras_attn.base.tensors import as_array, is_array, short_repr, static_shape
from keras_attn.base.types import ArrayLike, Tensor
from keras_attn.decoding.processors import Processor
from keras_attn.decoding.protocol import facts_of
from keras_attn.decoding.strategies import Generated, Strategy
from keras_attn.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class GenerateArguments(TypedDict, total=False):
    """The arguments of a model's `generate`, except for the source."""

    strategy: Strategy | None
    max_length: int
    start_id: int | None
    end_id: int | Sequence[int] | str | None
    prefix_ids: ArrayLike | None
    processors: Sequence[Processor]
    cache: Cache | None
    source_lengths: ArrayLike | None
    return_attention_scores: bool
    jit_compile: bool


class GeneratingModel(Protocol):
    """A model that generates target ids for source ids, as the recipes of `keras_attn.models` do."""

    def generate(
        self, source: ArrayLike, **arguments: Unpack[GenerateArguments]
    ) -> Generated | tuple[Generated, Tensor]:
        """Returns the generated ids for ids `[B, S]`, with the attention scores if these are requested."""


def generate(
    model: GeneratingModel,
    texts: Iterable[str],
    source: Tokenizer,
    target: Tokenizer,
    batch_size: int = 64,
    verbose: int = 0,
    **named: Unpack[GenerateArguments],
) -> list[str]:
    """Returns the best text that a model generates for each text.

    Texts of similar lengths are in the same batch, so that short texts do not wait for long ones. A
    decoder-only model reads prompts (`Tokenizer.prompt`: the start id first, no end id); the
    returned texts do not repeat them.

    Args:
        model: A model with `generate(source, ...)`, such as the recipes of `keras_attn.models`.
        texts: The texts, a list of `str`.
        source, target: The tokenizers of the source and of the target.
        batch_size: Number of texts in a batch.
        verbose: 1 shows a progress bar, 0 shows none.
        **named: As for the model's `generate`: `strategy`, `max_length`, `prefix_ids` `[P]` and so on.

    Returns:
        The generated texts, in the order of `texts`.

    Raises:
        ValueError: If `texts` is a single text, `source` or `target` is not a tokenizer, or `batch_size` is
            not a positive integer; if model and tokenizers have different special ids; if each text has
            its own prefix; or if `return_attention_scores` is set.

    Example:
    >>> from keras_attn import models, text
    >>> letters, words = text.Characters("abc"), text.Words(["one", "two"])
    >>> model = models.RNNSeq2Seq(letters.vocabulary_size, words.vocabulary_size, size=8)
    >>> written = text.generate(model, ["ab", "c"], letters, words, max_length=5)
    >>> len(written)
    2
    """
    for name, tokenizer in (("source", source), ("target", target)):
        if not isinstance(tokenizer, Tokenizer):
            received = tokenizer.__class__.__name__ if is_array(tokenizer) else repr(tokenizer)
            raise ValueError(f"`{name}` must be a tokenizer. Received: {name}={received}.")
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"`texts` must be a list of texts. Received: {short_repr(texts)}.")
    check_positive("batch_size", batch_size)
    if named.get("return_attention_scores"):
        raise ValueError("`return_attention_scores` must be False: only texts are returned. Received: True.")
    prefix = as_array("prefix_ids", named.get("prefix_ids"))
    if prefix is not None and len(prefix.shape) != 1:
        raise ValueError(
            f"`prefix_ids` must be the same for all texts, [P]. Received: prefix_ids.shape={static_shape(prefix)}."
        )
    facts = facts_of(model)
    check_same_special_ids(model=facts.special_ids, source=source.special_ids, target=target.special_ids)
    explicit = facts.special_ids.padding is None  # the lengths of prompts
    if explicit and not facts.reads_prompts and batch_size > 1:
        raise ValueError(
            "`batch_size` must be 1 for a model without a padding id, unless it continues prompts. "
            f"Received: batch_size={batch_size}."
        )
    texts = list(texts)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    starts = range(0, len(texts), batch_size)
    read = source.ragged_prompt if facts.reads_prompts else source.ragged
    batches = [read([texts[index] for index in order[start : start + batch_size]]) for start in starts]
    written = [""] * len(texts)
    places = iter(order)
    progress = keras.utils.Progbar(len(batches), unit_name="batch", verbose=verbose)
    for batch in batches:
        has_lengths = explicit and facts.reads_prompts
        lengths = {"source_lengths": batch.row_lengths().numpy().astype("int32")} if has_lengths else {}
        found = cast(Generated, model.generate(batch.to_tensor(facts.special_ids.filler), **lengths, **named))
        best = found.tokens[:, 0]
        if explicit:  # what follows the end is a token too
            tokens, ends = (ops.convert_to_numpy(each[:, 0]) for each in (found.tokens, found.lengths))
            best = tf.RaggedTensor.from_tensor(tokens, ends)
        for text in target.detokenize(best).numpy():
            written[next(places)] = text.decode()
        progress.add(1)
    return written
