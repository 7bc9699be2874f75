"""Tokenizers of the file tokenizer.json as TensorFlow graphs; `keras_attn.text.PretrainedTokenizer` is the door."""

from keras_attn.text.tokenizer_json.merges_files import from_merges
from keras_attn.text.tokenizer_json.sentence_piece_files import from_sentence_piece
from keras_attn.text.tokenizer_json.vocabulary import from_vocabulary

__all__ = ["from_merges", "from_sentence_piece", "from_vocabulary"]
