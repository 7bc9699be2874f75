"""Blocks: the wirings, the slots, packed sequences, bad input."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka

B, T, S, D, M, H, HIDDEN = 3, 5, 7, 12, 13, 2, 17


@pytest.fixture
def x(rng):
    return ops.convert_to_tensor(rng.normal(size=(B, T, D)).astype("float32"))


@pytest.fixture
def memory(rng):
    return rng.normal(size=(B, S, M)).astype("float32")


WIRINGS = {
    ka.PostNorm: lambda x, f, norm: norm(x + f(x)),
    ka.PreNorm: lambda x, f, norm: x + f(norm(x)),
    ka.InnerNorm: lambda x, f, norm: x + norm(f(x)),
}


@pytest.mark.parametrize("residual", WIRINGS)
@pytest.mark.parametrize("norm", [ka.LayerNorm(), ka.RMSNorm()], ids=["layer", "rms"])
def test_encoder_block_is_its_equations(residual, norm, x):
    block, wire = ka.EncoderBlock(H, HIDDEN, residual=residual(norm)), WIRINGS[residual]
    outputs = block(x)
    first, second = block.norms
    hidden = wire(x, block.attention, first)
    np.testing.assert_allclose(outputs, wire(hidden, block.feed_forward, second), atol=1e-5)


@pytest.mark.parametrize("residual", WIRINGS)
def test_decoder_block_is_its_equations(residual, x, memory):
    block, wire = ka.DecoderBlock(H, HIDDEN, residual=residual()), WIRINGS[residual]
    outputs, scores = block(x, memory, return_attention_scores=True)
    hidden = wire(x, block.attention, block.norms[0])
    _, wanted = block.memory_attention(
        hidden if residual is not ka.PreNorm else block.norms[1](hidden), memory, return_attention_scores=True
    )
    hidden = wire(hidden, lambda y: block.memory_attention(y, memory), block.norms[1])
    np.testing.assert_allclose(outputs, wire(hidden, block.feed_forward, block.norms[2]), atol=1e-5)
    np.testing.assert_allclose(scores, wanted, atol=1e-5)


def test_a_sandwich_has_two_norms_of_each_sublayer(x, memory, rng):
    block = ka.DecoderBlock(H, HIDDEN, residual=ka.SandwichNorm(ka.RMSNorm()))
    block(x, memory)
    for norm in (*block.norms, *block.after_norms):
        norm.scale.assign(rng.normal(size=D))
    hidden = x
    for i, sublayer in enumerate((block.attention, lambda y: block.memory_attention(y, memory), block.feed_forward)):
        hidden = hidden + block.after_norms[i](sublayer(block.norms[i](hidden)))
    np.testing.assert_allclose(block(x, memory), hidden, atol=1e-5)
    assert len({id(norm) for norm in (*block.norms, *block.after_norms)}) == 6


def test_a_user_written_wiring(x):
    class Plain(ka.PostNorm):
        def after(self, x, y, norm):
            return x + y

    block = ka.EncoderBlock(H, HIDDEN, residual=Plain())
    outputs = block(x)
    hidden = x + block.attention(x)
    np.testing.assert_allclose(outputs, hidden + block.feed_forward(hidden), atol=1e-5)


def test_a_wiring_that_is_a_function_is_refused():
    class Called(ka.PostNorm):
        def __call__(self, x, sublayer, norm):
            return x + sublayer(x)

    with pytest.raises(ValueError, match="`residual` must define `before` and `after`. Received: Called"):
        ka.EncoderBlock(H, HIDDEN, residual=Called())


def test_slots_are_used_and_saved(x, tmp_path):
    attention = ka.MultiHeadSelfAttention(H, num_kv_heads=1, mask=ka.Window(2), name="attention")
    block = ka.EncoderBlock(
        H, HIDDEN, attention=attention, feed_forward=ka.GatedFeedForward(HIDDEN), residual=ka.PreNorm()
    )
    inputs = keras.Input((None, D))
    model = keras.Model(inputs, block(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = loaded.layers[-1]
    assert isinstance(again.feed_forward, ka.GatedFeedForward)
    assert again.attention.mask == ka.Window(2)
    assert again.residual == ka.PreNorm()
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("kind", [ka.EncoderBlock, ka.DecoderBlock])
def test_packed_blocks_equal_unpacked_ones(kind, rng, memory):
    one, two = (rng.normal(size=(1, length, D)).astype("float32") for length in (3, 2))
    block = kind(H, HIDDEN, mask=ka.Causal(), position=ka.Rotary())
    extra = {}
    first, second = [one], [two]
    if kind is ka.DecoderBlock:
        extra = {"memory": memory[:1], "memory_segment_ids": np.array([[1, 1, 2, 2, 2, 0, 0]])}
        first, second = [one, memory[:1, :2]], [two, memory[:1, 2:5]]
    packed = block(
        np.concatenate([one, two], axis=1),
        segment_ids=np.array([[1, 1, 1, 2, 2]]),
        positions=np.array([[0, 1, 2, 0, 1]]),
        **extra,
    )
    np.testing.assert_allclose(packed[:, :3], block(*first), atol=1e-5)
    np.testing.assert_allclose(packed[:, 3:], block(*second), atol=1e-5)


def test_dropout_acts_in_training_only(x, memory):
    block = ka.DecoderBlock(H, HIDDEN, dropout=0.5)
    np.testing.assert_array_equal(block(x, memory), block(x, memory, training=False))
    assert np.abs(np.array(block(x, memory, training=True)) - np.array(block(x, memory, training=True))).max() > 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, "`num_heads` must be an integer of at least 1"),
        ({"hidden_size": -1}, "`hidden_size` must be an integer of at least 1. Received: hidden_size=-1"),
        ({"dropout": 1.5}, "`dropout` must be a number in"),
        ({"residual": "pre"}, "`residual` must be a Residual of keras_attn or None. Received: residual='pre'"),
        ({"mask": True}, "`mask` must be a Pattern"),
        ({"attention": "multi"}, "`attention` must be a Keras layer. Received: attention='multi'"),
        ({"feed_forward": ka.FeedForward(3, dtype="float64")}, "`feed_forward` must have the dtype policy"),
        ({"attention": ka.MultiHeadSelfAttention(3)}, "`num_heads` must be the `num_heads` of the given `attention`"),
        ({"attention": ka.MultiHeadSelfAttention(2), "mask": ka.Causal()}, "`mask` must be the `mask` of the"),
        ({"mask": ka.masks.Explicit(np.ones((T, T), bool))}, "`mask` must be a Pattern of keras_attn or None"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ka.EncoderBlock(**{"num_heads": H, "hidden_size": HIDDEN, **arguments})


@pytest.mark.parametrize("block", [ka.EncoderBlock, ka.DecoderBlock])
@pytest.mark.parametrize("feed_forward", [ka.FeedForward, ka.GatedFeedForward])
def test_a_hidden_size_beside_a_feed_forward_layer_of_another_is_refused(block, feed_forward):
    message = rf"`hidden_size` must be .* Received: hidden_size={HIDDEN}, feed_forward.hidden_size={HIDDEN + 2}\."
    with pytest.raises(ValueError, match=message):
        block(H, HIDDEN, feed_forward=feed_forward(HIDDEN + 2))
    assert block(H, HIDDEN, feed_forward=feed_forward(HIDDEN)).feed_forward.hidden_size == HIDDEN
    block(H, HIDDEN, feed_forward=keras.layers.Dense(D))  # a layer without such a size
    config = block(H, HIDDEN, feed_forward=feed_forward(HIDDEN)).get_config()
    older = block.from_config({**config, "hidden_size": HIDDEN + 2})  # as files of older versions may be
    assert older.hidden_size == older.feed_forward.hidden_size == HIDDEN


def test_a_decoder_block_does_not_lose_its_causal_mask_to_a_slot():
    with pytest.raises(ValueError, match=r"mask=Causal\(\), attention.mask=None"):
        ka.DecoderBlock(H, HIDDEN, attention=ka.MultiHeadSelfAttention(H))


def test_slots_of_other_sizes_are_refused(x, memory):
    attention = ka.EncoderDecoderAttention(4)
    with pytest.raises(ValueError, match=r"num_heads=2, memory_attention.num_heads=4"):
        ka.DecoderBlock(H, HIDDEN, memory_attention=attention)
    with pytest.raises(ValueError, match=r"`feed_forward` must return the shape of its inputs, \(3, 5, 12\)"):
        ka.EncoderBlock(H, HIDDEN, feed_forward=keras.layers.Dense(1))(x)
    with pytest.raises(ValueError, match="`segment_ids` must be given if `memory_segment_ids` is"):
        ka.DecoderBlock(H, HIDDEN)(x, memory, memory_segment_ids=np.ones((B, S), int))


def test_a_padded_segment_reads_no_memory(x, memory):
    block = ka.DecoderBlock(H, HIDDEN)
    segment_ids = np.array([[1, 1, 1, 0, 0]] * B)
    _, scores = block(x, memory, segment_ids=segment_ids, return_attention_scores=True)
    np.testing.assert_array_equal(np.array(scores)[:, :, 3:], 0)
    np.testing.assert_allclose(np.array(scores)[:, :, :3].sum(-1), 1, atol=1e-5)


def test_masks_that_cannot_broadcast_are_named(x, memory):
    with pytest.raises(ValueError, match=r"`attention_mask` must broadcast to \[B, H, T, T\]"):
        ka.EncoderBlock(H, HIDDEN)(x, attention_mask=np.ones((T, S), bool))
    with pytest.raises(ValueError, match=r"`attention_mask` must broadcast to \[B, H, T, T\]"):
        ka.DecoderBlock(H, HIDDEN)(x, memory, attention_mask=np.ones((T, S), bool))
    with pytest.raises(ValueError, match=r"`memory_attention_mask` must broadcast to \[B, T, S\]"):
        ka.DecoderBlock(H, HIDDEN)(x, memory, memory_attention_mask=np.ones((B, T, T), bool))
    symbolic = keras.KerasTensor((None, T, D)), keras.KerasTensor((None, T, S), "bool")
    with pytest.raises(ValueError, match="`attention_mask` must broadcast"):
        ka.EncoderBlock(H, HIDDEN)(symbolic[0], attention_mask=symbolic[1])
    with pytest.raises(ValueError, match="`segment_ids` must have shape"):
        ka.EncoderBlock(H, HIDDEN)(x, segment_ids=np.ones((B, S), int))


@pytest.mark.parametrize("make", [lambda **k: ka.EncoderBlock(2, 5, **k), lambda **k: ka.DecoderBlock(2, 5, **k)])
def test_activation_is_that_of_the_default_feed_forward(make):
    assert make(activation="gelu").feed_forward.activation is keras.activations.gelu
    assert make().activation is keras.activations.relu
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(make(activation="silu")))
    assert again.activation is keras.activations.silu
    gated = ka.GatedFeedForward(5)
    assert make(feed_forward=gated).activation is keras.activations.silu
    assert (
        make(feed_forward=ka.GatedFeedForward(5), activation="silu").feed_forward.activation is keras.activations.silu
    )
    with pytest.raises(ValueError, match="`activation` must be the `activation` of the given `feed_forward`"):
        make(feed_forward=ka.GatedFeedForward(5), activation="relu")
