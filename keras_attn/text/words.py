"""The tokenizer by words."""

import tensorflow as tf

from keras_attn.base.slot import register
from keras_attn.text.lookup import WHITESPACE, LookupTokenizer


@register
class Words(LookupTokenizer):
    """One id per word, words being what stands between whitespace of any script.

    `detokenize` joins with one space, so that `detokenize(tokenize(text))` is the text with every
    run of whitespace turned to one space and none at its ends, for texts over the vocabulary.
    Punctuation stays with its word.

    Args:
        vocabulary: The words in the order of their ids; None leaves them to `adapt(dataset)`.
        max_length: Number of ids that a row has at most, the end id counted; longer texts are cut.
            None for no bound.
        lowercase: Whether texts are lower-cased first.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`.

    Returns:
        int32 `[B, S]`: ids, the end id 2, then 0 up to the longest row. A text without a word is
        `[2]`, a word outside of the vocabulary 3; bytes that are not UTF-8 are read as U+FFFD.

    Raises:
        ValueError: If `vocabulary` holds anything but words without whitespace, each of them once;
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

    def _units(self, texts):
        return tf.strings.split(tf.strings.regex_replace(texts, WHITESPACE, " "))

    def _decode(self, ids):
        return tf.strings.reduce_join(self._units_of_ids.lookup(ids), axis=-1, separator=" ")
