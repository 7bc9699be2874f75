"""Scores of generated texts."""

import itertools
from typing import NamedTuple

from keras_attn.base.optional import optional_module
from keras_attn.base.tensors import short_repr


class BleuScore(NamedTuple):
    """What `bleu` returns.

    Attributes:
        score: From 0 to 100.
        signature: How it was computed; without it, scores cannot be compared.
    """

    score: float
    signature: str


def bleu(hypotheses, references, tokenize=None, lowercase=False):
    """Corpus BLEU of texts, by the package sacrebleu.

    `100 * min(1, exp(1 - r/c)) * exp(1/4 sum_n log p_n)`, n = 1 ... 4, p_n being the share of the
    hypotheses' n-grams that are in the references too, c and r the lengths of both. Texts must
    be whole, as people read them: sacrebleu tokenises them itself.

    Args:
        hypotheses: List of texts.
        references: For each hypothesis a text, or a list of texts any of which would do.
        tokenize: Name of sacrebleu's tokeniser, for instance `"zh"`, `"ja-mecab"` or `"char"`;
            None for its default, `"13a"`.
        lowercase: Whether case does not matter.

    Returns:
        `BleuScore`.

    Raises:
        ImportError: Without sacrebleu.
        ValueError: For a text in place of a list, no hypotheses, another number of references, or
            a hypothesis without any; for anything but strings, bytes among them.

    Example:
    >>> from keras_attn.training import bleu
    >>> round(bleu(["The cat sat on the mat."], ["The cat sat on a mat."]).score, 1)
    48.9

    References:
        Post 2018, A Call for Clarity in Reporting BLEU Scores, arXiv:1804.08771; Papineni et
        al. 2002, BLEU: a Method for Automatic Evaluation of Machine Translation.
    """
    for name, texts in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(texts, (str, bytes)):
            raise ValueError(f"`{name}` must be a list of texts. Received: {name}={short_repr(texts)}.")
    hypotheses, references = list(hypotheses), list(references)
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(
            f"`references` must be as many as `hypotheses`, at least one. "
            f"Received: {len(references)} and {len(hypotheses)}."
        )
    references = [list(known) if isinstance(known, (list, tuple)) else [known] for known in references]
    for text in (*hypotheses, *itertools.chain.from_iterable(references)):
        if not isinstance(text, str):
            raise ValueError(f"`hypotheses` and `references` must be strings. Received: {short_repr(text)}.")
    if not all(references):
        raise ValueError(
            f"`references` must hold a text for each hypothesis. Received: none for {references.index([])}."
        )
    metrics = optional_module("sacrebleu.metrics", "training")
    width = max(map(len, references))
    streams = list(zip(*(known + [None] * (width - len(known)) for known in references)))
    metric = metrics.BLEU(tokenize=tokenize, lowercase=lowercase)
    score = metric.corpus_score(hypotheses, streams).score
    return BleuScore(score, str(metric.get_signature()))
