"""Multi-head layers: against the oracle with grouped heads, segments and positions, and bad input."""

import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from tests import oracle

B, T, S, D, M, H, K = 3, 5, 7, 11, 13, 6, 5


def linear(projection, x):
    weights = [ops.convert_to_numpy(weight) for weight in projection.weights]
    return x @ weights[0] + (weights[1] if len(weights) > 1 else 0)


def heads(x):
    return x.reshape(*x.shape[:2], -1, K).transpose(0, 2, 1, 3)


def merged(x):
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


@pytest.mark.parametrize("num_kv_heads", [None, 1, 2, 3, 6])
@pytest.mark.parametrize("use_bias", [True, False])
def test_self_attention_equals_the_oracle(num_kv_heads, use_bias, rng):
    x = rng.normal(size=(B, T, D)).astype("float32")
    mask, segments = rng.random((B, T)) < 0.8, rng.integers(0, 3, (B, T))
    attention_mask = rng.random((B, H, T, T)) < 0.7
    layer = ka.MultiHeadSelfAttention(H, K, num_kv_heads, mask=ka.Causal(), use_bias=use_bias)
    outputs, scores = layer(
        x, mask=mask, attention_mask=attention_mask, segment_ids=segments, return_attention_scores=True
    )
    query, key, value = np.split(
        linear(layer.in_projection, np.where(mask[..., None], x, 0)),
        [H * K, (H + (num_kv_heads or H)) * K],
        axis=-1,
    )
    visible = (mask[:, :, None] & mask[:, None, :])[:, None] & attention_mask & np.tri(T, dtype=bool)
    visible &= ((segments[:, :, None] == segments[:, None, :]) & (segments != 0)[:, None, :])[:, None]
    wanted, wanted_scores = oracle.attention(heads(query), heads(key), heads(value), visible)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)
    np.testing.assert_allclose(outputs, linear(layer.out_projection, merged(wanted)), atol=1e-5)


@pytest.mark.parametrize("num_kv_heads", [None, 2])
def test_encoder_decoder_attention_equals_the_oracle(num_kv_heads, rng):
    x, memory = (rng.normal(size=shape).astype("float32") for shape in ((B, T, D), (B, S, M)))
    masks = {"query_mask": rng.random((B, T)) < 0.8, "memory_mask": rng.random((B, S)) < 0.8}
    ids = {"query_segment_ids": rng.integers(0, 3, (B, T)), "memory_segment_ids": rng.integers(0, 3, (B, S))}
    attention_mask = rng.random((B, T, S)) < 0.7
    layer = ka.EncoderDecoderAttention(H, K, num_kv_heads)
    outputs, scores = layer(x, memory, attention_mask=attention_mask, **masks, **ids, return_attention_scores=True)
    query = linear(layer.query_projection, np.where(masks["query_mask"][..., None], x, 0))
    key, value = np.split(
        linear(layer.memory_projection, np.where(masks["memory_mask"][..., None], memory, 0)), 2, axis=-1
    )
    visible = masks["query_mask"][:, :, None] & masks["memory_mask"][:, None, :] & attention_mask
    visible &= ids["query_segment_ids"][:, :, None] == ids["memory_segment_ids"][:, None, :]
    visible &= (ids["query_segment_ids"] != 0)[:, :, None]
    wanted, wanted_scores = oracle.attention(heads(query), heads(key), heads(value), visible[:, None])
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)
    np.testing.assert_allclose(outputs, linear(layer.out_projection, merged(wanted)), atol=1e-5)


def test_an_empty_row_yields_the_output_bias(rng):
    x = rng.normal(size=(B, T, 12)).astype("float32")
    layer = ka.MultiHeadSelfAttention(2)
    layer(x)
    layer.out_projection.bias.assign(rng.normal(size=12))
    outputs, scores = layer(x, attention_mask=np.zeros((T, T), bool), return_attention_scores=True)
    np.testing.assert_array_equal(outputs, np.broadcast_to(layer.out_projection.bias, (B, T, 12)))
    np.testing.assert_array_equal(scores, 0)


@pytest.mark.parametrize("shape", [(T, T), (1, T, T), (B, T, T), (B, 1, T, T), (1, 2, 1, T), (1, 1, 1, 1)])
def test_attention_masks_broadcast(shape, rng):
    x, mask = rng.normal(size=(B, T, 12)).astype("float32"), rng.random(shape) < 0.7
    layer = ka.MultiHeadSelfAttention(2)
    whole = np.broadcast_to(mask[:, None] if mask.ndim == 3 else mask, (B, 2, T, T))
    np.testing.assert_allclose(layer(x, attention_mask=mask), layer(x, attention_mask=whole), atol=1e-6)
    np.testing.assert_allclose(layer(x, attention_mask=mask.astype("int32")), layer(x, attention_mask=whole), atol=1e-6)


def test_packed_sequences_equal_unpacked_ones(rng):
    one, two = (rng.normal(size=(1, length, 12)).astype("float32") for length in (3, 2))
    layer = ka.MultiHeadSelfAttention(2, mask=ka.Causal(), position=ka.Rotary())
    packed = layer(
        np.concatenate([one, two, np.full((1, 1, 12), np.nan, "float32")], axis=1),
        mask=np.array([[1, 1, 1, 1, 1, 0]], bool),
        segment_ids=np.array([[1, 1, 1, 2, 2, 0]]),
        positions=np.array([[0, 1, 2, 0, 1, 0]]),
    )
    np.testing.assert_allclose(packed[:, :3], layer(one), atol=1e-5)
    np.testing.assert_allclose(packed[:, 3:5], layer(two), atol=1e-5)


def test_nan_in_segment_zero_stops_at_the_door(rng):
    x, memory = (rng.normal(size=(1, 5, 12)).astype("float32") for _ in range(2))
    ids, spoiled = np.array([[1, 1, 2, 2, 0]]), memory.copy()
    spoiled[0, 4] = np.nan
    layer = ka.MultiHeadSelfAttention(2)
    np.testing.assert_array_equal(layer(spoiled, segment_ids=ids), layer(memory, segment_ids=ids))
    layer = ka.EncoderDecoderAttention(2)
    named = {"query_segment_ids": ids, "memory_segment_ids": ids}
    np.testing.assert_array_equal(layer(x, spoiled, **named), layer(x, memory, **named))
    assert np.all(np.isfinite(np.array(layer(spoiled, memory, **named))))


def test_masks_may_be_lists(rng):
    x = rng.normal(size=(1, 2, 12)).astype("float32")
    layer = ka.MultiHeadSelfAttention(2)
    wanted = layer(x, mask=np.array([[True, False]]), attention_mask=np.tri(2, dtype=bool))
    np.testing.assert_array_equal(layer(x, mask=[[True, False]], attention_mask=[[True, False], [True, True]]), wanted)


def test_attention_dropout_in_training_only(rng):
    x = rng.normal(size=(B, T, 12)).astype("float32")
    layer = ka.MultiHeadSelfAttention(2, dropout=0.5)
    np.testing.assert_array_equal(layer(x), layer(x, training=False))
    one, two = (ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    assert np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, "`num_heads` must be an integer of at least 1. Received: num_heads=0"),
        ({"num_heads": 2.0}, "`num_heads` must be an integer"),
        ({"num_heads": 4, "num_kv_heads": 3}, "multiple of `num_kv_heads`. Received: num_heads=4, num_kv_heads=3"),
        ({"num_heads": 4, "num_kv_heads": 0}, "`num_kv_heads` must be an integer of at least 1"),
        ({"num_heads": 4, "head_size": 0}, "`head_size` must be an integer of at least 1"),
        ({"num_heads": 4, "dropout": -0.1}, r"`dropout` must be a number in \[0, 1\)"),
        ({"num_heads": 4, "mask": "causal"}, "`mask` must be a Pattern of keras_attn or None. Received: mask='causal'"),
        ({"num_heads": 4, "position": "rotary"}, "`position` must be a HeadPosition"),
        ({"num_heads": 4, "colour": "blue"}, "colour"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ka.MultiHeadSelfAttention(**arguments)


def test_heads_that_do_not_divide_are_named(rng):
    x = rng.normal(size=(B, T, D)).astype("float32")
    with pytest.raises(ValueError, match=r"`head_size` must be given unless .* num_heads=4, inputs.shape=\(3, 5, 11\)"):
        ka.MultiHeadSelfAttention(4)(x)
    with pytest.raises(ValueError, match=r"Received: num_heads=4, query.shape=\(3, 5, 11\)"):
        ka.EncoderDecoderAttention(4)(x, x)


def test_masks_that_cannot_broadcast_are_named(rng):
    x, memory = rng.normal(size=(B, T, 12)), rng.normal(size=(B, S, M))
    for mask, axes in ((np.ones((T, S), bool), "B, H, T, T"), (np.ones((B, T, S), bool), "B, T, T")):
        with pytest.raises(ValueError, match=rf"`attention_mask` must broadcast to \[{axes}\]"):
            ka.MultiHeadSelfAttention(2)(x, attention_mask=mask)
    with pytest.raises(ValueError, match=r"`attention_mask` must broadcast to \[B, H, T, S\] = \(3, 2, 5, 7\)"):
        ka.EncoderDecoderAttention(2)(x, memory, attention_mask=np.ones((B, 3, T, S), bool))
    with pytest.raises(ValueError, match="`attention_mask` must be boolean"):
        ka.MultiHeadSelfAttention(2)(x, attention_mask=np.zeros((T, T), "float32"))
    with pytest.raises(ValueError, match="`memory_segment_ids` must be given if `query_segment_ids` is"):
        ka.EncoderDecoderAttention(2)(x, memory, query_segment_ids=np.ones((B, T), int))


@pytest.mark.tensorflow  # counts operations of TensorFlow's graph
@pytest.mark.parametrize("sizes, most", [((B, T), 20), ((None, None), 28)])
def test_a_call_makes_few_operations(sizes, most):
    import tensorflow as tf

    layer = ka.MultiHeadSelfAttention(H, K)
    layer.build((B, T, D))
    spec = tf.TensorSpec((*sizes, D), "float32")
    operations = tf.function(layer, input_signature=[spec]).get_concrete_function().graph.get_operations()
    types = [each.type for each in operations if each.type not in ("Const", "Placeholder", "Identity", "NoOp")]
    assert len(types) <= most, types
    assert "Range" not in types  # without a mask and a position, no index is computed
    assert "Shape" not in types or None in sizes
