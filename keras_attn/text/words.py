"""A tokenizer with one id per word."""

from __future__ import annotations

import tensorflow as tf

from keras_attn.base.slot import register
from keras_attn.text.lookup import WHITESPACE, LookupTokenizer


@register
class Words(LookupTokenizer):
    """One id per word; words are separated by whitespace of any script.

    `detokenize` joins words with one space. For texts of known words, `detokenize(tokenize(text))` is
    the text with each run of whitespace replaced by one space, and stripped. Punctuation stays with
    its word.

    Args:
        vocabulary: The words in the order of their ids; None to learn them by `adapt(dataset)`.
        max_length: Maximum number of ids in a row, including the end id; longer texts are truncated.
            None for no limit.
        lowercase: Whether to convert texts to lower case first.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`.

    Returns:
        int32 `[B, S]`: ids, the end id 2, then 0 up to the longest row. A text without a word is
        `[2]`, a word outside the vocabulary is 3; bytes that are not UTF-8 are read as U+FFFD.

    Raises:
        ValueError: If `vocabulary` does not consist of different words without whitespace;
            if `texts` are not strings `[B]`; if there is no vocabulary yet.

    Example:
    >>> from keras_attn.text import Words
    >>> tokenizer = Words()
    >>> tokenizer.adapt(["the cat", "the dog"], verbose=0)
    >>> tokenizer.tokens
    ['the', 'cat', 'dog']
    >>> tokenizer(["the  dog", "a cat sat"]).numpy().tolist()
    [[4, 6, 2, 0], [3, 5, 3, 2]]
    >>> tokenizer.detokenize([4, 6, 2]).numpy().decode()
    'the dog'
    """

    asset_name = "words.txt"

    def _units(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return tf.strings.split(tf.strings.regex_replace(texts, WHITESPACE, " "))

    def _decode(self, ids: tf.RaggedTensor) -> tf.Tensor:
        return tf.strings.reduce_join(self._units_of_ids.lookup(ids), axis=-1, separator=" ")
