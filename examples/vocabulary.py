"""Tokens and their ids, for the examples: 0 padding, 1 start, 2 end, 3 unknown."""

import json
import pathlib

import numpy as np

PADDING_ID, START_ID, END_ID, UNKNOWN_ID = range(4)
NUM_SPECIAL = 4


class Vocabulary:
    """A list of tokens, each of which has an id.

    Args:
        tokens: The tokens in the order of their ids, the special ones left out.
    """

    def __init__(self, tokens):
        self.tokens = list(tokens)
        self._ids = {token: index + NUM_SPECIAL for index, token in enumerate(self.tokens)}

    @classmethod
    def of(cls, sequences):
        """Collects the distinct tokens of token sequences (for characters: of strings)."""
        return cls(sorted(set().union(*map(set, sequences))))

    def __len__(self):
        return len(self.tokens) + NUM_SPECIAL

    def ids(self, sequence):
        """Returns the ids of a token sequence, the end id behind them."""
        return [self._ids.get(token, UNKNOWN_ID) for token in sequence] + [END_ID]

    def sequence(self, ids):
        """Returns the tokens up to the end id; unknown and special ids are left out."""
        ids = list(ids)
        ids = ids[: ids.index(END_ID)] if END_ID in ids else ids
        return [self.tokens[i - NUM_SPECIAL] for i in ids if i >= NUM_SPECIAL]

    def save(self, path):
        """Writes the tokens as JSON."""
        pathlib.Path(path).write_text(json.dumps(self.tokens, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote."""
        return cls(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))


def pad(rows):
    """Stacks lists of ids to an integer matrix `[B, T]`, zeros behind the shorter ones."""
    matrix = np.full((len(rows), max(map(len, rows))), PADDING_ID, "int32")
    for row, ids in zip(matrix, rows, strict=True):
        row[: len(ids)] = ids
    return matrix


def teacher_forcing(source, target):
    """Returns model inputs and labels of id matrices: each target token is read before the next is asked for."""
    start = np.full((len(target), 1), START_ID, "int32")
    return {"source": source, "target": np.concatenate([start, target[:, :-1]], axis=1)}, target
