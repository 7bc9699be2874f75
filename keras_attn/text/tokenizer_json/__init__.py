"""Tokenizers of the file tokenizer.json as TensorFlow graphs; `keras_attn.text.PretrainedTokenizer` is the door."""

from keras_attn.text.tokenizer_json.vocabulary import from_vocabulary

__all__ = ["from_vocabulary"]
