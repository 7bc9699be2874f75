"""A WordPiece tokenizer on TensorFlow Text: one id per frequent word, several for a rare one."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from keras_attn.base.slot import register
from keras_attn.text.corpus import TextDataset
from keras_attn.text.lookup import WHITESPACE, LookupTokenizer, check_vocabulary_size
from keras_attn.text.optional import text_module
from keras_attn.text.tokenizer import NUM_SPECIAL_IDS


@register
class WordPiece(LookupTokenizer):
    """Words split into the longest pieces of the vocabulary, from left to right; `##` marks a piece inside a word.

    Words are separated by whitespace and control characters; each punctuation mark and each Chinese
    character is a word too. `detokenize` joins words, including punctuation, with one space. Texts are
    not normalized and keep their accents.

    Args:
        vocabulary: The pieces in the order of their ids, such as `["play", "##ing"]`; None to learn
            them by `adapt(dataset)`.
        max_length: Maximum number of ids in a row, including the end id; longer texts are truncated.
            None for no limit.
        lowercase: Whether to convert texts to lower case first.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`.

    Returns:
        int32 `[B, S]`: ids, the end id 2, then 0 up to the longest row. A text without a word is `[2]`;
        a word that cannot be split into known pieces, or has more than 100 bytes, is a single 3; bytes that
        are not UTF-8 are read as U+FFFD.

    Raises:
        ValueError: If `vocabulary` does not consist of different strings without whitespace;
            if `texts` are not strings `[B]`; if there is no vocabulary yet.
        ImportError: Without TensorFlow Text.

    Example:
    >>> from keras_attn.text import WordPiece
    >>> tokenizer = WordPiece(["play", "##ing", "##ed", "."])
    >>> ids = tokenizer(["playing play.", "played chess"])
    >>> ids.numpy().tolist()
    [[4, 5, 4, 7, 2], [4, 6, 3, 2, 0]]
    >>> tokenizer.detokenize(ids).numpy()[0].decode()
    'playing play .'

    A program that loads the SavedModel must `import tensorflow_text`; TF Serving has its operations.

    References:
        Wu et al. 2016, Google's Neural Machine Translation System, arXiv:1609.08144.
        Devlin et al. 2019, BERT, arXiv:1810.04805, for the rules that separate words.
    """

    asset_name = "word_pieces.txt"

    def adapt(self, dataset: TextDataset, vocabulary_size: int | None = 8000, verbose: int = 1) -> None:
        """Learns the pieces, which replace the current ones.

        Args:
            dataset: A `tf.data.Dataset` of string scalars or of strings `[B]`, or an iterable of `str`.
            vocabulary_size: Maximum number of ids, including the special ids; often fewer are learned.
            verbose: 1 shows a progress bar, 0 shows none.

        Raises:
            ValueError: If the dataset has no word, or `vocabulary_size` is too small for its characters.
        """
        check_vocabulary_size(vocabulary_size)
        super().adapt(dataset, vocabulary_size, verbose)

    def _choose(self, counts: Mapping[str, int], vocabulary_size: int | None) -> list[str]:
        learner = text_module("tensorflow_text.tools.wordpiece_vocab.wordpiece_tokenizer_learner_lib")
        size = check_vocabulary_size(vocabulary_size) - NUM_SPECIAL_IDS
        tokens = learner.learn(sorted(counts.items()), size, reserved_tokens=[], lower_thresh=None)
        if len(tokens) > size:
            raise ValueError(
                f"`vocabulary_size` must be at least {len(tokens) + NUM_SPECIAL_IDS} for the characters of "
                f"`dataset`. Received: {vocabulary_size=}."
            )
        return tokens

    def _units(self, texts: tf.Tensor) -> tf.RaggedTensor:
        words = text_module("tensorflow_text.python.ops.bert_tokenizer").BasicTokenizer()
        return words.tokenize(tf.strings.regex_replace(texts, WHITESPACE, " "))

    def _open(self, path: str) -> None:
        super()._open(path)
        tensorflow_text = text_module("tensorflow_text")
        # Without an unknown token, unknown words stay as they are, and the table gives them the unknown id.
        self._pieces_of_words = tensorflow_text.WordpieceTokenizer(self._ids_of_units, unknown_token=None)

    def _encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return self._pieces_of_words.tokenize(self._units(texts)).merge_dims(1, 2)

    def _decode(self, ids: tf.RaggedTensor) -> tf.Tensor:
        words = tf.strings.reduce_join(self._units_of_ids.lookup(ids), axis=-1, separator=" ")
        return tf.strings.regex_replace(words, "(^| )##", "")
