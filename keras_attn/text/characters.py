"""A tokenizer with one id per character."""

from __future__ import annotations

import tensorflow as tf

from keras_attn.base.slot import register
from keras_attn.text.lookup import LookupTokenizer


@register
class Characters(LookupTokenizer):
    r"""One id per Unicode code point: any script, including line breaks, tabs, NUL and control characters.

    `detokenize(tokenize(text)) == text` for every text of known characters that is not truncated.
    One visible character may be several code points (a letter and its combining accent, a family of
    emoji); texts are not normalized.

    Args:
        vocabulary: The characters in the order of their ids, a string or any iterable; None to learn
            them by `adapt(dataset)`.
        max_length: Maximum number of ids in a row, including the end id; longer texts are truncated.
            None for no limit.
        lowercase: Whether to convert texts to lower case first.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`.

    Returns:
        int32 `[B, S]`: ids, the end id 2, then 0 up to the longest row. An empty text is `[2]`,
        a character outside the vocabulary is 3; bytes that are not UTF-8 are read as U+FFFD,
        which is 3 as well unless it is in the vocabulary.

    Raises:
        ValueError: If `vocabulary` does not consist of different single characters; if
            `texts` are not strings `[B]`; if there is no vocabulary yet.

    Example:
    >>> from keras_attn.text import Characters
    >>> tokenizer = Characters("abc\n")
    >>> tokenizer(["cab", "", "a\nd"]).numpy().tolist()
    [[6, 4, 5, 2], [2, 0, 0, 0], [4, 7, 3, 2]]
    >>> tokenizer.detokenize([[6, 4, 5, 2], [4, 3, 2, 6]]).numpy().tolist()
    [b'cab', b'a\xef\xbf\xbd']
    """

    asset_name = "characters.txt"
    unit_dtype = tf.int64
    unit_column = 0
    unknown_unit = 0xFFFD
    token_kind = "single characters"

    def _units(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return tf.cast(tf.strings.unicode_decode(texts, "UTF-8", errors="replace"), tf.int64)

    def _decode(self, ids: tf.RaggedTensor) -> tf.Tensor:
        code_points = tf.cast(self._units_of_ids.lookup(ids), tf.int32)
        return tf.strings.unicode_encode(code_points, "UTF-8", errors="replace")

    def _line(self, token: str) -> str:
        return f"{ord(token)}\t{ascii(token)[1:-1] if not token.isprintable() else token}"

    def _parse(self, line: str) -> str:
        return chr(int(line.split("\t")[0]))

    def _is_token(self, token: str) -> bool:
        return len(token) == 1
