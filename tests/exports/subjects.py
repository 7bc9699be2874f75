"""The models that are exported, small and of prime sizes, and what is sent through them: rows with padding."""

import keras
import numpy as np

import keras_attn as ka

VOCABULARY = 53
SOURCE, TARGET = 7, 5  # lengths of what is sent
BATCH = 3


def classifier(source, target):
    """The classifier of the README: padding is masked from the embedding on."""
    del target
    tokens = keras.Input((source,), dtype="int32", name="source")
    x = keras.layers.Embedding(VOCABULARY, 16, mask_zero=True)(tokens)
    x = ka.Sinusoidal()(x)
    x = ka.Encoder(2, ka.EncoderBlock(2, 32, residual=ka.PreNorm()))(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, keras.layers.Dense(3)(x))


def encoder_decoder(source, target):
    """A small Transformer."""
    return refit(ka.models.Transformer(VOCABULARY, VOCABULARY, 1, 16, 2, 32), source=source, target=target)


def causal(source, target):
    """A small GPT."""
    del source
    return refit(ka.models.CausalTransformer(VOCABULARY, 1, 16, 2, 32, position=ka.Rotary()), target=target)


def recurrent(source, target):
    """The recurrent encoder-decoder, its recurrent encoder included."""
    return refit(ka.models.RNNSeq2Seq(VOCABULARY, VOCABULARY, 16), source=source, target=target)


def recurrent_layer(source, target):
    """The attention RNN in a functional model of the user's own."""
    ids = {"source": source, "target": target}
    ids = {name: keras.Input((length,), dtype="int32", name=name) for name, length in ids.items()}
    embedded = {name: keras.layers.Embedding(VOCABULARY, 16, mask_zero=True)(each) for name, each in ids.items()}
    x = ka.AdditiveRNNAttention(16)(embedded["target"], embedded["source"])
    return keras.Model(ids, keras.layers.Dense(3)(x))


MODELS = {make.__name__: make for make in (classifier, encoder_decoder, causal, recurrent, recurrent_layer)}
INPUTS = {"classifier": ("source",), "causal": ("target",)}


def refit(model, **lengths):
    """Returns the recipe's model over inputs of these lengths."""
    if None in lengths.values():
        return model
    inputs = {name: keras.Input((length,), dtype="int32", name=name) for name, length in lengths.items()}
    return keras.Model(inputs, model(inputs))


def make(name, lengths):
    """Returns the model `name` for lengths that are `"free"` or `"fixed"`."""
    return MODELS[name](*((SOURCE, TARGET) if lengths == "fixed" else (None, None)))


def ids(name, batch=BATCH, source=SOURCE, target=TARGET):
    """Returns ids with padding behind the end of all rows but the first, by the name of the input."""
    rng = np.random.default_rng(batch)
    given = {}
    for key, length in {"source": source, "target": target}.items():
        given[key] = rng.integers(4, VOCABULARY, (batch, length)).astype("int32")
        for row in range(1, batch):
            given[key][row, max(1, length - row - 1) :] = 0
    return {key: given[key] for key in INPUTS.get(name, given)}


def inputs(model, given):
    """Returns ids as the model takes them: a dictionary, or the one tensor of a model that names none."""
    return given if isinstance(model.input, dict) else next(iter(given.values()))


def signature(model, batch):
    """Returns the input signature of a model of named inputs with a fixed batch, and lengths as it has them."""
    specs = {
        key: keras.InputSpec(shape=(batch, *each.shape[1:]), dtype="int32", name=key)
        for key, each in model.input.items()
    }
    return [specs]
