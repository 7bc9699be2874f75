"""Scores of generated texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from keras_attn.base.optional import optional_module
from keras_attn.base.tensors import short_repr


class BleuScore(NamedTuple):
    """What `bleu` returns.

    Attributes:
        score: The score, from 0 to 100.
        signature: sacrebleu's description of the computation; only scores with equal signatures are comparable.
    """

    score: float
    signature: str


def bleu(
    hypotheses: Iterable[str],
    references: Iterable[str | list[str] | tuple[str, ...]],
    tokenize: str | None = None,
    lowercase: bool = False,
) -> BleuScore:
    """Computes the corpus BLEU of texts with the package sacrebleu.

    `100 * min(1, exp(1 - r/c)) * exp(1/4 sum_n log p_n)`, n = 1 ... 4, where p_n is the fraction of
    the hypotheses' n-grams that are in the references too, and c and r are the lengths of both. Texts
    must not be tokenised: sacrebleu does this itself.

    Args:
        hypotheses: List of texts.
        references: For each hypothesis one correct text, or a list of them.
        tokenize: Name of sacrebleu's tokeniser, for instance `"zh"`, `"ja-mecab"` or `"char"`;
            None for its default, `"13a"`.
        lowercase: Whether to ignore case.

    Returns:
        `BleuScore`.

    Raises:
        ImportError: If sacrebleu is not installed.
        ValueError: For a text instead of a list, an empty list of hypotheses, a different number of
            references, a hypothesis without a reference, or texts that are not `str`.

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
            f"`references` must have one entry for each of `hypotheses`, at least one. "
            f"Received: {len(references)} and {len(hypotheses)}."
        )
    known = [list(texts) if isinstance(texts, (list, tuple)) else [texts] for texts in references]
    for text in (*hypotheses, *itertools.chain.from_iterable(known)):
        if not isinstance(text, str):
            raise ValueError(f"`hypotheses` and `references` must be strings. Received: {short_repr(text)}.")
    if not all(known):
        raise ValueError(f"`references` must hold a text for each hypothesis. Received: none for {known.index([])}.")
    metrics = optional_module("sacrebleu.metrics", "training")
    streams = list(itertools.zip_longest(*known))  # None where a hypothesis has fewer references
    metric = metrics.BLEU(tokenize=tokenize, lowercase=lowercase)
    score = metric.corpus_score(hypotheses, streams).score
    return BleuScore(score, str(metric.get_signature()))
