"""Which tokens of a byte pair encoding its merges can make, so that SentencePiece makes the same ones.

The two differ: `tokenizers` merges the pairs of its list, in the order of the list; SentencePiece merges any two
neighbours that make a token, the token with the best score first. They agree if SentencePiece has exactly those
tokens that come out of their own text as one piece, each scored by the rank of its last merge. For if two pieces
stand next to each other in a longer word, no merge has crossed their borders; within them, the merges were those
of their own text alone. So if the pieces make a token, either that text comes out as this token, by a last merge
of these two pieces, or it does not, and the pair is in no list.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

Ranks = Mapping[tuple[str, str], int]
"""The rank of each pair that may be merged; smaller ones go first."""


def merge_ranks(merges: Iterable[str | Sequence[str]]) -> dict[tuple[str, str], int]:
    """Returns the ranks of a list of merges, each `"a b"` or `["a", "b"]`."""
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return {(first, second): rank for rank, (first, second) in enumerate(pairs)}


def made_tokens(vocabulary: Iterable[str], ranks: Ranks) -> dict[str, int]:
    """Returns the tokens that come out of their own text as one piece, with the rank of the last merge."""
    possible = {first + second for first, second in ranks}
    made = {}
    for token in vocabulary:
        if token in possible:
            pieces, last = merged(token, ranks)
            if len(pieces) == 1:
                made[token] = last
    return made


def merged(text: str, ranks: Ranks) -> tuple[list[str], int]:
    """Returns the pieces of a text and the rank of the last merge, -1 if there was none."""
    pieces, last, none = list(text), -1, len(ranks)
    while len(pieces) > 1:
        found = [ranks.get(pair, none) for pair in itertools.pairwise(pieces)]
        rank = min(found)
        if rank == none:
            break
        at, last = found.index(rank), rank
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces, last
