"""Ids that come one after the other, as parts of a text without broken characters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from keras_attn.base.tensors import short_repr
from keras_attn.base.types import ArrayLike
from keras_attn.text.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"


class TextStream:
    """Turns ids into parts of a text, as they come.

    A part is returned as soon as no further id can change it: a character of several tokens comes as a whole, a run of
    tokens for bytes after its end, and spaces with what follows them. The parts joined are
    `tokenizer.detokenize(ids)` of all ids.

    Args:
        tokenizer: A tokenizer of `keras_attn.text`.

    Raises:
        ValueError: If `tokenizer` is not a tokenizer; if ids are added that are not integers; after `end`.

    Example:
    >>> from keras_attn import text
    >>> words = text.Words(["the", "cat", "sat"])
    >>> stream = text.TextStream(words)
    >>> [stream.add(4), stream.add([5, 6]), stream.end()]
    ['the', ' cat sat', '']
    >>> list(text.TextStream(words).parts([4, 5, 6, 2]))
    ['the', ' cat', ' sat']
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not isinstance(tokenizer, Tokenizer):
            raise ValueError(f"`tokenizer` must be a tokenizer. Received: tokenizer={short_repr(tokenizer)}.")
        self.tokenizer = tokenizer
        self._ids: list[int] = []
        self._written = ""
        self._ended = False

    def add(self, ids: int | Sequence[int] | ArrayLike) -> str:
        """Returns the next part of the text, often empty, after one more id, or several `[L]`."""
        found = np.asarray(ids)
        if self._ended or (found.size and found.dtype.kind not in "iu") or found.ndim > 1:
            received = "ids after `end`" if self._ended else f"ids={short_repr(ids)}"
            raise ValueError(f"`ids` must be an integer, or integers [L], before `end`. Received: {received}.")
        self._ids += found.reshape(-1).tolist()
        settled = len(self._ids) - self.tokenizer.num_open_ids(self._ids)
        return self._next(self._text(settled).rstrip(REPLACEMENT).rstrip())

    def end(self) -> str:
        """Returns the rest of the text; no id may follow."""
        self._ended = True
        return self._next(self._text(len(self._ids)))

    def parts(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields the parts of the text that are not empty, for ids that come one at a time."""
        for each in ids:
            if part := self.add(each):
                yield part
        if part := self.end():
            yield part

    def _text(self, size: int) -> str:
        """Returns the text of the first ids."""
        return self.tokenizer.detokenize(np.array(self._ids[:size], "int64")).numpy().decode()

    def _next(self, text: str) -> str:
        """Returns what a longer text has behind the parts so far."""
        part = text[len(self._written) :]
        self._written += part
        return part
