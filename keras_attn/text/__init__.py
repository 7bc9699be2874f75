"""Tokenizers that run inside TensorFlow graphs, from strings to padded ids and back; generation from text to text."""

from keras_attn.text.characters import Characters
from keras_attn.text.chat import Chat
from keras_attn.text.generating import generate
from keras_attn.text.marian_tokenizer import MarianTokenizer
from keras_attn.text.pretrained_tokenizer import PretrainedTokenizer
from keras_attn.text.sentence_piece import SentencePiece
from keras_attn.text.text_stream import TextStream
from keras_attn.text.tokenizer import Tokenizer
from keras_attn.text.word_piece import WordPiece
from keras_attn.text.words import Words

__all__ = [
    "Characters",
    "Chat",
    "MarianTokenizer",
    "PretrainedTokenizer",
    "SentencePiece",
    "TextStream",
    "Tokenizer",
    "WordPiece",
    "Words",
    "generate",
]
