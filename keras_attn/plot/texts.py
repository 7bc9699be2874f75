"""Pictures of where a model looks in one text while it writes another."""

import numpy as np
from keras import ops

from keras_attn.plot.figures import heat_map


def text_attention(model, text, written, source, target, title=None):
    """Draws which tokens of a text a model attends to as it writes each token of another text, as a heat map.

    Of a stack of blocks with heads it shows the last block, the mean of its heads.

    Args:
        model: With `attention_scores(source, target)`, as the recipes with a source have it.
        text: What the model reads, a `str`.
        written: What it writes: a text that it generated, or any other.
        source, target: The tokenizers of both sides.
        title: Of the figure; both texts by default.

    Returns:
        A `matplotlib.figure.Figure`, as `heat_map`.

    Raises:
        ImportError: Without matplotlib.
        ValueError: For a model without attention scores.

    Example:
    >>> from keras_attn import models, plot, text
    >>> letters, words = text.Characters("abc"), text.Words(["one", "two"])
    >>> model = models.RNNSeq2Seq(letters.vocabulary_size, words.vocabulary_size, size=8)
    >>> figure = plot.text_attention(model, "ab", "two one", letters, words)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['two', 'one', 'end']
    """
    check_attends(model)
    ids, labels = (ops.convert_to_numpy(side.tokenize([given])) for side, given in ((source, text), (target, written)))
    read = np.concatenate([[[target.special_ids.start]], labels[:, :-1]], axis=1)
    scores = model.attention_scores(ids, read)[0]  # [T, S], or [N, H, T, S] of N blocks
    scores = scores if len(scores.shape) == 2 else ops.mean(scores[-1], axis=0)
    title = f"{text}: {written}" if title is None else title
    return heat_map(scores, labels_of(ids[0], source), labels_of(labels[0], target), title)


def check_attends(model):
    """Raises a `ValueError` unless the model has attention scores to draw."""
    if not callable(getattr(model, "attention_scores", None)):
        raise ValueError(
            f"`model` must have `attention_scores(source, target)`. Received: a {model.__class__.__name__}."
        )


def labels_of(ids, tokenizer):
    """Returns the tokens of ids `[L]`, a list of `str`."""
    labels = {tokenizer.special_ids.end: "end", tokenizer.special_ids.unknown: "\ufffd"}
    tokens = tokenizer.tokens
    first = tokenizer.vocabulary_size - len(tokens)  # the special ids come first
    return [labels.get(index) or tokens[index - first] for index in ids.tolist()]
