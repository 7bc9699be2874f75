"""Ordinary Keras layers in the slots: which fit, which arguments are left out, which layers raise an error."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_attn as ka
from keras_attn.base import layer as base_layer
from keras_attn.base import slot_layers
from keras_attn.recurrent import Score

B, T, S, D, M, H = 2, 3, 5, 8, 8, 2


class Fed(layers.Layer):
    """A feed-forward layer of a user: `build` under another name, `call` alone."""

    def build(self, shape):
        self.hidden, self.out = layers.Dense(11, "gelu", name="hidden"), layers.Dense(shape[-1], name="out")
        self.hidden.build(shape)
        self.out.build((*shape[:-1], 11))

    def call(self, x):
        return self.out(self.hidden(x))


class Unbuilt(layers.Layer):
    """Parts from the constructor, and no `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.drop, self.out = layers.Dense(11), layers.Dropout(0.5), layers.Dense(D)

    def call(self, x):
        return self.out(self.drop(self.hidden(x)))


class Mean(layers.Layer):
    """An attention that looks at all positions, padded ones too, and has no argument for a mask."""

    def call(self, x):
        return x + ops.mean(x, axis=1, keepdims=True)


class MaskedMean(layers.Layer):
    """An attention with a mask."""

    def call(self, x, mask=None):
        weights = ops.ones_like(x[..., :1]) if mask is None else ops.cast(mask, x.dtype)[..., None]
        return ops.sum(x * weights, axis=1, keepdims=True) / ops.sum(weights, axis=1, keepdims=True) + 0 * x


class Read(layers.Layer):
    """An encoder-decoder attention."""

    def call(self, query, memory):
        return query + ops.mean(memory, axis=1, keepdims=True)


class Wrapped(layers.Layer):
    """Keras' attention, wrapped as the message says."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(H, 4)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, inputs, mask=None):
        return self.attention(inputs, inputs, query_mask=mask, value_mask=mask)


def functional():
    inputs = keras.Input((None, D))
    return keras.Model(inputs, layers.Dense(D)(layers.Dropout(0.5)(layers.Dense(11, "relu")(inputs))))


FEED_FORWARD = {
    "call-alone": Fed,
    "no-build": Unbuilt,
    "dense": lambda: layers.Dense(D),
    "sequential": lambda: keras.Sequential([layers.Dense(11), layers.Dropout(0.5), layers.Dense(D)]),
    "functional": functional,
    "lambda": lambda: layers.Lambda(lambda x: 2 * x),
    "dense-lambda": lambda: layers.Dense(D, activation=lambda x: x * x),
    "nested": lambda: keras.Sequential([Unbuilt(), layers.Dense(D, activation=lambda x: x * x)]),
    "convolution": lambda: layers.Conv1D(D, 3, padding="same"),
}


@pytest.fixture
def x(rng):
    return rng.normal(size=(B, T, D)).astype("float32")


@pytest.fixture
def memory(rng):
    return rng.normal(size=(B, S, M)).astype("float32")


@pytest.mark.parametrize("name", FEED_FORWARD)
def test_any_layer_feeds_forward(name, x, memory):
    make = FEED_FORWARD[name]
    block = ka.EncoderBlock(H, 11, feed_forward=make(), residual=ka.PreNorm())
    outputs = block(x)
    stream = ops.convert_to_tensor(x)
    hidden = stream + block.attention(block.norms[0](stream))
    np.testing.assert_allclose(outputs, hidden + block.feed_forward(block.norms[1](hidden)), atol=1e-5)
    mask = np.array([[True, True, False], [True, True, True]])
    assert block(x, mask=mask).shape == (B, T, D)
    assert block(np.concatenate([x, x, x])[:, :2]).shape == (3 * B, 2, D)
    assert ka.DecoderBlock(H, 11, feed_forward=make())(x, memory, inputs_mask=mask, training=True).shape == (B, T, D)


@pytest.mark.parametrize("name", FEED_FORWARD)
def test_any_layer_feeds_forward_in_models_and_stacks(name, x):
    inputs = keras.Input((None, D))
    stack = ka.Encoder(2, ka.EncoderBlock(H, 11, feed_forward=FEED_FORWARD[name](), mask=ka.Causal()))
    model = keras.Model(inputs, stack(inputs))
    outputs = ops.convert_to_numpy(model(x))
    paths = [weight.path for weight in stack.weights]
    assert name == "functional" or len(set(paths)) == len(paths)  # Keras builds those before they are part of anything
    one, two = (block.feed_forward.get_weights() for block in stack.blocks)
    assert all(np.any(a != b) for a, b in zip(one, two, strict=True) if a.ndim > 1)
    state = stack.init_state(B, T)
    if name != "convolution":
        for index in range(T):
            y, state = stack.step(x[:, index], state, index)
            np.testing.assert_allclose(y, outputs[:, index], atol=1e-5)


def test_dropout_in_a_slot_follows_the_blocks_training(x):
    block = ka.EncoderBlock(H, 11, dropout=0, feed_forward=Unbuilt())
    np.testing.assert_array_equal(block(x), block(x, training=False))
    assert np.any(ops.convert_to_numpy(block(x, training=True)) != ops.convert_to_numpy(block(x)))


def test_ordinary_layers_are_saved(x, tmp_path):
    scope = {"Fed": Fed, "Unbuilt": Unbuilt, "MaskedMean": MaskedMean}
    for slots in ({"feed_forward": Fed()}, {"feed_forward": Unbuilt(), "attention": MaskedMean()}):
        inputs = keras.Input((None, D))
        model = keras.Model(inputs, ka.Encoder(2, ka.EncoderBlock(H, 11, **slots))(inputs))
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=scope)
        np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float16"])
def test_the_policy_of_a_model_is_ignored(dtype, x):
    part = keras.Sequential([layers.Dense(11, dtype=dtype), layers.Dense(D, dtype="float32")])
    block = ka.EncoderBlock(H, 11, feed_forward=part, dtype=dtype)
    assert keras.backend.standardize_dtype(block(x).dtype) == block.compute_dtype


def test_an_attention_with_a_mask_gets_the_padding(x):
    block = ka.EncoderBlock(H, 11, attention=MaskedMean())
    mask = np.array([[True, True, False], [True, False, False]])
    spoiled = np.where(mask[..., None], x, np.nan)
    wanted = ops.convert_to_numpy(block(x, mask=mask))
    np.testing.assert_array_equal(block(spoiled, mask=mask), wanted)
    np.testing.assert_allclose(wanted[0, :2], block(x[:1, :2])[0], atol=1e-5)
    wrapped = ka.EncoderBlock(H, 11, attention=Wrapped())
    np.testing.assert_allclose(wrapped(spoiled, mask=mask)[0, :2], wrapped(x[:1, :2])[0], atol=1e-5)


def test_an_attention_without_a_mask_is_refused_where_there_is_padding(x):
    block = ka.EncoderBlock(H, 11, attention=Mean())
    assert block(x).shape == (B, T, D)
    message = "`attention` must be a layer whose `call` takes `mask`, which is given .there is padding"
    mask = np.ones((B, T), bool)
    with pytest.raises(ValueError, match=message):
        block(x, mask=mask)
    with pytest.raises(ValueError, match=message):
        block(x, segment_ids=np.ones((B, T), int))
    masked = ops.convert_to_tensor(x)
    masked._keras_mask = ops.convert_to_tensor(mask)
    with pytest.raises(ValueError, match=message):
        block(masked)
    embedded = layers.Embedding(5, D, mask_zero=True)(keras.Input((None,), dtype="int32"))
    with pytest.raises(ValueError, match=message):
        block(embedded)
    with pytest.raises(ValueError, match=message):
        ka.Encoder(2, [ka.EncoderBlock(H, 11), ka.EncoderBlock(H, 11, attention=Mean())])(embedded)


@pytest.mark.parametrize("name", ["attention_mask", "positions", "return_attention_scores"])
def test_arguments_that_a_slots_layer_does_not_take_are_named(name, x):
    value = {"attention_mask": np.ones((T, T), bool), "positions": np.arange(T), "return_attention_scores": True}[name]
    block = ka.EncoderBlock(H, 11, attention=MaskedMean())
    for inputs in (x, keras.KerasTensor((None, T, D))):
        with pytest.raises(
            ValueError, match=f"`attention` must be a layer whose `call` takes `{name}`, which is given"
        ):
            block(inputs, **{name: value})


def test_any_layer_reads_the_memory(x, memory):
    block = ka.DecoderBlock(H, 11, memory_attention=Read(), residual=ka.PreNorm())
    mask = np.ones((B, S), bool)
    assert block(x, memory, inputs_mask=mask[:, :T]).shape == (B, T, D)
    for given, name in (
        ({"memory_mask": mask}, "memory_mask"),
        ({"memory_attention_mask": mask[:, None]}, "attention_mask"),
        ({"return_attention_scores": True}, "return_attention_scores"),
    ):
        with pytest.raises(ValueError, match=f"`memory_attention` must be a layer whose `call` takes `{name}`"):
            block(x, memory, **given)
        symbolic = {n: keras.KerasTensor(v.shape, "bool") if v is not True else v for n, v in given.items()}
        with pytest.raises(ValueError, match=f"`memory_attention` must be a layer whose `call` takes `{name}`"):
            block(keras.KerasTensor(x.shape), keras.KerasTensor(memory.shape), **symbolic)
    theirs = ka.DecoderBlock(H, 11, memory_attention=layers.MultiHeadAttention(H, 4))
    outputs, scores = theirs(x, memory, return_attention_scores=True)
    assert (outputs.shape, scores.shape) == ((B, T, D), (B, H, T, S))


@pytest.mark.parametrize(
    ("slot", "make", "message"),
    [
        ("attention", lambda: layers.MultiHeadAttention(H, 4), r"`attention` must .* takes \(inputs\) and .* Wrap it"),
        ("feed_forward", lambda: layers.MultiHeadAttention(H, 4), r"`feed_forward` must be .* takes \(inputs\)"),
        ("memory_attention", Mean, r"`memory_attention` must be .* takes \(query, memory\)"),
        ("memory_attention", lambda: layers.Dense(D), r"`memory_attention` must .* \(inputs, training=None\)"),
        ("memory_attention", functional, r"`memory_attention` must be .* takes \(query, memory\)"),
        ("feed_forward", lambda: layers.Dense(3), r"`feed_forward` must return .* \(2, 3, 8\). Received: \(2, 3, 3\)"),
        ("attention", lambda: layers.Dense(3), r"`attention` must return .* \(2, 3, 8\). Received: \(2, 3, 3\)"),
        ("attention", lambda: layers.LSTM(D), r"`attention` must return .*Received: \(2, 8\)"),
        ("feed_forward", lambda: layers.TimeDistributed(layers.Dense(5)), r"`feed_forward` must return the shape"),
        (
            "feed_forward",
            lambda: layers.Lambda(lambda x: (x, x), output_shape=lambda shape: shape),
            "`feed_forward` must return one tensor",
        ),
    ],
)
def test_layers_that_do_not_fit_name_the_slot(slot, make, message, x, memory):
    with pytest.raises(ValueError, match=message):
        ka.DecoderBlock(H, 11, **{"mask": None, slot: make()})(x, memory)


def test_a_mask_beside_a_layer_that_would_ignore_it_is_refused():
    with pytest.raises(ValueError, match=r"`mask` must be the `mask` of the given `attention`.* attention.mask=None"):
        ka.DecoderBlock(H, 11, attention=MaskedMean())
    with pytest.raises(ValueError, match=r"`position` must be the `position` of the given `attention`"):
        ka.EncoderBlock(H, 11, attention=MaskedMean(), position=ka.Rotary())


def test_an_attention_without_prefill_is_named(x):
    block = ka.EncoderBlock(H, 11, attention=Mean())
    block(x)
    with pytest.raises(ValueError, match="`attention` must have `init_state` and `step` .* Received: <Mean"):
        block.prefill(x, [1, 2], T)
    with pytest.raises(ValueError, match="`attention` must have `init_state` and `step`"):
        block.init_state(B, T)


class PlainCell(layers.Layer):
    """A cell without a `build`, an `output_size` or a first state."""

    state_size = 4

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def call(self, inputs, states):
        outputs = ops.tanh(self.dense(inputs) + states[0])
        return outputs, [outputs]


class DotScore(Score):
    """A score without weights and without a `build`."""

    def keys(self, memory):
        return memory[..., :4]

    def call(self, query, keys):
        return ops.sum(query[:, None] * keys, axis=-1)


class ProjectedScore(DotScore):
    """A score with a part from its constructor, and no `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def keys(self, memory):
        return self.dense(memory)


@pytest.mark.parametrize("score", [DotScore, ProjectedScore, ka.MultiplicativeScore])
@pytest.mark.parametrize("cell", [PlainCell, lambda: layers.GRUCell(4)], ids=["plain", "gru"])
def test_cells_and_scores_without_a_build(cell, score, x, memory):
    layer = ka.RNNAttention(cell(), score())
    outputs, scores = layer(x, memory, return_attention_scores=True)
    assert outputs.shape == (B, T, 4 + M)
    np.testing.assert_allclose(ops.sum(scores, axis=-1), np.ones((B, T)), atol=1e-5)
    inputs = keras.Input((None, D)), keras.Input((None, M))
    layer = ka.RNNAttention(cell(), score())
    model = keras.Model(inputs, layer(*inputs))
    assert model([x, memory]).shape == outputs.shape
    assert {weight.path for weight in model.weights} == {weight.path for weight in layer.weights}


def test_cells_and_scores_that_do_not_fit_name_the_slot():
    class NoStates(layers.Layer):
        state_size = 4

        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match=r"`cell` must be a layer whose `call` takes \(inputs, states\)"):
        ka.RNNAttention(NoStates(), ka.MultiplicativeScore())

    class OneTensor(layers.Layer):
        def keys(self, memory):
            return memory

        def call(self, query):
            return query

    with pytest.raises(ValueError, match=r"`score` must be a layer whose `call` takes \(query, keys\)"):
        ka.RNNAttention(layers.GRUCell(4), OneTensor())


def test_a_class_is_inspected_once(monkeypatch):
    layer, x = ka.EncoderBlock(H, 11, feed_forward=Fed()), np.ones((B, T, D), "float32")
    first = ops.convert_to_numpy(layer(x))
    monkeypatch.setattr(slot_layers, "inspect", None)
    monkeypatch.setattr(base_layer, "inspect", None)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), first)


def test_the_signature_is_that_of_the_layer_if_it_has_a_call_of_its_own():
    layer = layers.Dense(D)
    layer.call = lambda inputs, scale: inputs * scale
    assert list(slot_layers.call_signature(layer).parameters) == ["inputs", "scale"]
    assert list(slot_layers.call_signature(Fed()).parameters) == ["x"]
