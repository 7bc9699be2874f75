"""Texts in, texts out: generation over any number of texts, outside of a served model."""

from keras_attn.base.checks import check_positive
from keras_attn.base.special_ids import check_same_special_ids
from keras_attn.base.tensors import as_array, is_array, short_repr, static_shape
from keras_attn.decoding import generate_batches
from keras_attn.decoding.protocol import facts_of
from keras_attn.text.tokenizer import Tokenizer


def generate(model, texts, source, target, batch_size=64, verbose=0, **named):
    """Returns the best text that a model generates for each text.

    Texts are read in batches of similar lengths, so that short ones need not wait for long ones. A
    decoder-only model is given prompts (`Tokenizer.prompt`: the start id first, no end id), and
    what it writes behind each of them is returned.

    Args:
        model: With a `generate(source, ...)`, as the recipes of `keras_attn.models` have it.
        texts: The texts, a list of `str`.
        source, target: The tokenizers of both sides.
        batch_size: Number of texts in a batch.
        verbose: 1 for a progress bar, 0 for none.
        **named: As for the model's `generate`: `strategy`, `max_length`, `prefix_ids` `[P]` and so on.

    Returns:
        A list of `str`, in the order of the texts.

    Raises:
        ValueError: If `texts` is one text, `source` or `target` no tokenizer, or `batch_size` no
            positive integer; if the tokenizers have other special ids than the model; for prefixes
            of each text, or if attention scores are asked for.

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
            f"`prefix_ids` must be one for all texts, [P]. Received: prefix_ids.shape={static_shape(prefix)}."
        )
    facts = facts_of(model)
    check_same_special_ids(model=facts.special_ids, source=source.special_ids, target=target.special_ids)
    if facts.special_ids.padding is None and batch_size > 1:
        raise ValueError(
            "`batch_size` must be 1 for a model without a padding id: the rows of a batch differ in length. "
            f"Received: batch_size={batch_size}."
        )
    texts = list(texts)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    starts = range(0, len(texts), batch_size)
    read = source.prompt if facts.reads_prompts else source.tokenize
    batches = [read([texts[index] for index in order[start : start + batch_size]]) for start in starts]
    written = [None] * len(texts)
    places = iter(order)
    for found in generate_batches(model, batches, verbose, **named):
        for text in target.detokenize(found.tokens[:, 0]).numpy():
            written[next(places)] = text.decode()
    return written
