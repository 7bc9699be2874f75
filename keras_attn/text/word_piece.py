"""The tokenizer by parts of words, on TensorFlow Text: frequent words stay whole, rare ones fall to pieces."""

import tensorflow as tf

from keras_attn.base.slot import register
from keras_attn.text.lookup import WHITESPACE, LookupTokenizer, check_vocabulary_size
from keras_attn.text.optional import text_module
from keras_attn.text.tokenizer import NUM_SPECIAL_IDS


@register
class WordPiece(LookupTokenizer):
    """Words cut into the longest pieces of the vocabulary, from left to right; `##` marks a piece inside a word.

    Words are what stands between whitespace, with each punctuation mark and each Chinese character
    a word of its own; control characters count as whitespace. `detokenize` joins words with one
    space, punctuation too. Nothing is normalised and no accent is stripped.

    Args:
        vocabulary: The pieces in the order of their ids, such as `["play", "##ing"]`; None leaves
            them to `adapt(dataset)`.
        max_length: Number of ids that a row has at most, the end id counted; longer texts are cut.
            None for no bound.
        lowercase: Whether texts are lower-cased first.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`.

    Returns:
        int32 `[B, S]`: ids, the end id 2, then 0 up to the longest row. A text without a word is `[2]`;
        a word that the pieces do not make up, or of more than 100 bytes, is 3 as a whole; bytes that
        are not UTF-8 are read as U+FFFD.

    Raises:
        ValueError: If `vocabulary` holds anything but strings without whitespace, each of them once;
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
        Devlin et al. 2019, BERT, arXiv:1810.04805, whose rules for words these are.
    """

    asset_name = "word_pieces.txt"

    def adapt(self, dataset, vocabulary_size=8000, verbose=1):
        """Learns the pieces, in place of those there are.

        Args:
            dataset: A `tf.data.Dataset` of string scalars or of strings `[B]`, or an iterable of `str`.
            vocabulary_size: Number of ids at most, the special ones counted; often fewer come.
            verbose: 1 for a progress bar, 0 for none.

        Raises:
            ValueError: If the dataset has no word, or `vocabulary_size` is too small for its characters.
        """
        check_vocabulary_size(vocabulary_size)
        super().adapt(dataset, vocabulary_size, verbose)

    def _choose(self, counts, vocabulary_size):
        learner = text_module("tensorflow_text.tools.wordpiece_vocab.wordpiece_tokenizer_learner_lib")
        size = vocabulary_size - NUM_SPECIAL_IDS
        tokens = learner.learn(sorted(counts.items()), size, reserved_tokens=[], lower_thresh=None)
        if len(tokens) > size:
            raise ValueError(
                f"`vocabulary_size` must be at least {len(tokens) + NUM_SPECIAL_IDS} for the characters of "
                f"`dataset`. Received: {vocabulary_size=}."
            )
        return tokens

    def _units(self, texts):
        words = text_module("tensorflow_text.python.ops.bert_tokenizer").BasicTokenizer()
        return words.tokenize(tf.strings.regex_replace(texts, WHITESPACE, " "))

    def _open(self, path):
        super()._open(path)
        tensorflow_text = text_module("tensorflow_text")
        # Without an unknown token a word is left as it is, and the table then knows it to be unknown.
        self._pieces_of_words = tensorflow_text.WordpieceTokenizer(self._ids_of_units, unknown_token=None)

    def _encode(self, texts):
        return self._pieces_of_words.tokenize(self._units(texts)).merge_dims(1, 2)

    def _decode(self, ids):
        words = tf.strings.reduce_join(self._units_of_ids.lookup(ids), axis=-1, separator=" ")
        return tf.strings.regex_replace(words, "(^| )##", "")
