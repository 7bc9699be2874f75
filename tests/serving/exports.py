"""Tiny models and their exports, made once per worker and shared by the tests of serving."""

import functools
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import keras_attn as ka
from keras_attn import decoding, models, serving, text

L = 7
TEXTS = ["abc", "", "Jihgfedcba", "über\n", "b" * 40]
SIZES = {"num_layers": 1, "size": 16, "num_heads": 2, "hidden_size": 16}
letters = text.Characters("abcdefghij", lowercase=True, name="letters")
words = text.Words(["AA", "B", "Ç", "日本"], name="words")


def louder(model):
    """Returns the model with weights large enough for texts of several lengths."""
    head = model.get_layer("projection")
    head.kernel.assign(4 * ops.convert_to_numpy(head.kernel))
    return model


class Steps(keras.Model):
    """A user's own model: the next token depends on the last one and on how long the source is."""

    def __init__(self):
        super().__init__()
        self.table = self.add_weight((9, 9), "random_normal", name="table")
        self.built = True

    def init_state(self, source, max_length):
        return {"bias": ops.sum(ops.cast(source > 0, "float32"), axis=-1)}

    def step(self, tokens, state, index):
        return 9 * ops.take(self.table, tokens, axis=0) - state["bias"][:, None] * self.table[0], state


def classifier():
    """A functional model in half precision, from ids to the probabilities of three classes and a vector."""
    inputs = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(letters.vocabulary_size, 8, mask_zero=True)(inputs)
    x = ka.EncoderBlock(2, 16, dtype="mixed_bfloat16")(x)
    x = keras.layers.GlobalAveragePooling1D(dtype="mixed_bfloat16")(x)
    classes = keras.layers.Dense(3, activation="softmax", dtype="mixed_bfloat16", name="class")(x)
    return keras.Model(inputs, {"classes": classes, "vector": x})


MAKERS = {
    "transformer": lambda: louder(models.Transformer(letters.vocabulary_size, words.vocabulary_size, **SIZES)),
    "rnn": lambda: louder(models.RNNSeq2Seq(letters.vocabulary_size, words.vocabulary_size, size=8)),
    "causal": lambda: louder(models.CausalTransformer(letters.vocabulary_size, **SIZES)),
    "ids": lambda: louder(models.RNNSeq2Seq(20, 11, size=8)),
    "steps": Steps,
    "classifier": classifier,
}
ARGUMENTS = {
    "transformer": {
        "source_text": letters,
        "target_text": words,
        "strategy": decoding.Beam(3, 0.6, num_return_sequences=2),
        "generate_xla": True,
    },
    "rnn": {"source_text": letters, "target_text": words},
    "causal": {"source_text": letters, "strategy": decoding.Sample(0.8, seed=3)},
    "ids": {"warmup": [[4, 5, 2], [6, 2]]},
    "steps": {"source_text": letters, "target_text": words},
    "classifier": {"source_text": letters},
}


@functools.cache
def model(name):
    keras.utils.set_random_seed(11)
    return MAKERS[name]()


@functools.cache
def folder(name):
    """Returns the exported model's version folder."""
    directory = pathlib.Path(kept().name) / name
    return serving.export(model(name), directory, **{"max_length": L, "warmup": TEXTS, **ARGUMENTS[name]})


@functools.cache
def kept():
    return tempfile.TemporaryDirectory()


@functools.cache
def loaded(name):
    """Returns the exported model, read again."""
    return tf.saved_model.load(str(folder(name)))


def ask(name, signature="serving_default", **inputs):
    """Returns a signature's answers as arrays, texts as `str`."""
    found = loaded(name).signatures[signature](**{key: tf.constant(value) for key, value in inputs.items()})
    return {key: strings(tensor.numpy()) for key, tensor in found.items()}


def strings(array):
    """Returns bytes as `str`, anything else as it is."""
    return np.vectorize(bytes.decode, otypes=[object])(array) if array.dtype == object else array
