"""In training on TensorFlow, stacks leave padding out of the position-wise layers: the numbers are the same."""

import keras
import numpy as np
import pytest

import keras_attn as ka
from keras_attn.attention import stream
from keras_attn.transformer.residual import Residual

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="only TensorFlow has free shapes")

B, T, S, D, H, HIDDEN = 5, 7, 11, 12, 2, 17
TARGET = np.arange(T) < np.array([7, 3, 5, 0, 1])[:, None]
MEMORY = np.arange(S)[::-1] < np.array([4, 11, 0, 2, 9])[:, None]  # padded on the left


def encoder(num_layers=2, **options):
    return ka.Encoder(num_layers, ka.EncoderBlock(H, HIDDEN, dropout=0.0, **options))


def decoder(num_layers=2, **options):
    return ka.Decoder(num_layers, ka.DecoderBlock(H, HIDDEN, dropout=0.0, **options))


def gradients(stack, tensors, named, compiled):
    """Outputs, and gradients for inputs and weights of a loss that reads padding too."""
    upstream = tf.constant(np.random.default_rng(3).normal(size=tensors[0].shape).astype("float32"))

    def run():
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = stack(*tensors, **named, training=True)
            loss = tf.reduce_sum(outputs * upstream)
        return outputs, tape.gradient(loss, [*tensors, *(weight.value for weight in stack.trainable_weights)])

    return tf.function(run, jit_compile=compiled == "xla")() if compiled else run()


@pytest.fixture
def packed(monkeypatch):
    """The masks whose padding was left out."""
    found = []
    of = stream.RealPositions.of
    monkeypatch.setattr(stream.RealPositions, "of", lambda mask: found.append(mask) or of(mask))
    return found


def inputs_of(stack, rng):
    shapes = [(B, T, D)] if isinstance(stack, ka.Encoder) else [(B, T, D), (B, S, D)]
    return [tf.constant(rng.normal(size=shape).astype("float32")) for shape in shapes]


CASES = {
    "post": (lambda: encoder(), {"mask": TARGET}),
    "pre": (lambda: encoder(residual=ka.PreNorm(ka.RMSNorm())), {"mask": TARGET}),
    "one block": (lambda: encoder(1), {"inputs_mask": TARGET}),
    "sandwich": (lambda: encoder(residual=ka.SandwichNorm()), {"mask": TARGET}),
    "rotary causal": (lambda: encoder(position=ka.Rotary(), mask=ka.Causal()), {"mask": TARGET}),
    "gated": (lambda: encoder(feed_forward=ka.GatedFeedForward(HIDDEN)), {"mask": TARGET}),
    "no padding": (lambda: encoder(), {"mask": np.ones_like(TARGET)}),
    "only padding": (lambda: encoder(), {"mask": np.zeros_like(TARGET)}),
    "decoder": (lambda: decoder(), {"inputs_mask": TARGET, "memory_mask": MEMORY}),
    "decoder pre": (lambda: decoder(residual=ka.PreNorm()), {"inputs_mask": TARGET, "memory_mask": MEMORY}),
    "padded memory": (lambda: decoder(), {"memory_mask": MEMORY}),
    "padded target": (lambda: decoder(1), {"inputs_mask": TARGET}),
}


@pytest.mark.parametrize("make, masks", CASES.values(), ids=CASES)
def test_outputs_and_gradients_are_those_with_padding(make, masks, packed, rng):
    stack = make()
    tensors = inputs_of(stack, rng)
    stack(*tensors)
    for weight in stack.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.3)
    named = {name: tf.constant(mask) for name, mask in masks.items()}
    whole = gradients(stack, tensors, named, compiled=None)
    assert not packed
    without = gradients(stack, tensors, named, compiled="graph")
    assert len(packed) == len(masks)
    for mine, theirs in zip(tf.nest.flatten(without), tf.nest.flatten(whole), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(mine), tf.convert_to_tensor(theirs), rtol=2e-4, atol=2e-5)


def test_the_position_wise_layers_read_the_real_positions_and_one_more(rng, monkeypatch):
    stack = encoder(1)
    x = inputs_of(stack, rng)[0]
    stack(x)
    sizes = []
    of_matrix = ka.FeedForward.hidden

    def counting(layer, inputs):
        sizes.append(tf.shape(inputs)[0])
        return of_matrix(layer, inputs)

    monkeypatch.setattr(ka.FeedForward, "hidden", counting)

    @tf.function
    def run():
        stack(x, mask=tf.constant(TARGET), training=True)
        return sizes.pop()

    assert run() == TARGET.sum() + 1


class Plain(Residual):
    """`x + f(x)`, which may read other positions for all that a stack knows."""

    def after(self, x, y, norm):
        return x + norm(y)


def left_in():
    mask = {"mask": tf.constant(TARGET)}
    return {
        "inference": (encoder(), mask, {"training": False}),
        "no mask": (encoder(), {}, {}),
        "segments": (encoder(), {"segment_ids": tf.cast(TARGET, tf.int32)}, {}),
        "own residual": (encoder(residual=Plain()), mask, {}),
        "own layer": (encoder(feed_forward=keras.layers.Dense(D)), mask, {}),
        "own attention": (encoder(attention=Pooled()), mask, {}),
        "own run": (encoder(attention=Running(H)), mask, {}),
    }


class Running(ka.MultiHeadSelfAttention):
    """An attention of a user that changes what `run` does, and takes no stream."""

    def run(self, x, *, mask=None, **named):
        assert "stream" not in named
        return super().run(x, mask=mask, **named)


class Pooled(keras.layers.Layer):
    """An attention of a user."""

    def call(self, inputs, mask=None):
        return inputs + keras.ops.mean(inputs, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "name", ["inference", "no mask", "segments", "own residual", "own layer", "own attention", "own run"]
)
def test_padding_stays_in(name, packed, rng):
    stack, masks, named = left_in()[name]
    x = inputs_of(stack, rng)[0]
    stack(x)
    tf.function(lambda: stack(x, **masks, **{"training": True, **named}))()
    assert not packed


def test_padding_stays_in_under_xla_which_needs_static_shapes(packed, rng):
    stack = encoder(1)
    x = inputs_of(stack, rng)[0]
    stack(x)
    tf.function(lambda: stack(x, mask=tf.constant(TARGET), training=True), jit_compile=True)()
    assert not packed


def test_a_batch_without_rows(rng):
    stack = encoder()
    stack(inputs_of(stack, rng)[0])
    outputs = tf.function(lambda: stack(tf.zeros((0, T, D)), mask=tf.zeros((0, T), tf.bool), training=True))()
    assert outputs.shape == (0, T, D)


def test_free_sizes(rng):
    stack = encoder()
    x = inputs_of(stack, rng)[0]
    whole = stack(x, mask=tf.constant(TARGET), training=True)
    signature = [tf.TensorSpec((None, None, D)), tf.TensorSpec((None, None), tf.bool)]
    free = tf.function(lambda x, mask: stack(x, mask=mask, training=True), signature)
    np.testing.assert_allclose(free(x, tf.constant(TARGET)), whole, rtol=1e-4, atol=1e-5)
