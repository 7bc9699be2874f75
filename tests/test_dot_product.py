"""The score slot: norms, cap and sinks against the oracle, on both kernels and both layers."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from tests import oracle

B, T, D, H, K = 2, 5, 8, 4, 3


def rms(x, scale):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale


@pytest.mark.parametrize("kernel", ["dense", "blockwise"])
@pytest.mark.parametrize("cross", [False, True])
def test_equals_the_oracle(kernel, cross, rng):
    score = ka.DotProduct(norm=ka.RMSNorm(), softcap=1.5, sinks="zeros")
    x = rng.normal(size=(B, T, D)).astype("float32")
    kind = ka.EncoderDecoderAttention if cross else ka.MultiHeadSelfAttention
    layer = kind(H, K, num_kv_heads=2, score=score, kernel=kernel)
    arguments = (x, x) if cross else (x,)
    layer(*arguments)
    sinks = rng.normal(size=H)
    layer.sinks.assign(sinks)
    layer.query_norm.scale.assign(rng.normal(size=K))
    layer.key_norm.scale.assign(rng.normal(size=K))

    def project(*projections):
        parts = [x @ ops.convert_to_numpy(each.kernel) + ops.convert_to_numpy(each.bias) for each in projections]
        projected = np.concatenate(parts, -1)
        return [
            part.reshape(B, T, -1, K).transpose(0, 2, 1, 3)
            for part in np.split(projected, [H * K, (H + 2) * K], axis=-1)
        ]

    parts = (layer.query_projection, layer.memory_projection) if cross else (layer.in_projection,)
    query, key, value = project(*parts)
    query = rms(query, ops.convert_to_numpy(layer.query_norm.scale))
    key = rms(key, ops.convert_to_numpy(layer.key_norm.scale))
    wanted, wanted_scores = oracle.attention(query, key, value, softcap=1.5, sinks=sinks)
    wanted = wanted.transpose(0, 2, 1, 3).reshape(B, T, H * K) @ ops.convert_to_numpy(layer.out_projection.kernel)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(*arguments)), wanted, atol=1e-5)
    _, scores = layer(*arguments, return_attention_scores=True)
    np.testing.assert_allclose(ops.convert_to_numpy(scores), wanted_scores, atol=1e-5)


@pytest.mark.parametrize("kernel", ["dense", "blockwise", "fused"])
@pytest.mark.parametrize("cross", [False, True])
def test_the_scale_reaches_every_kernel(kernel, cross, rng):
    x = rng.normal(size=(B, T, D)).astype("float32")
    kind = ka.EncoderDecoderAttention if cross else ka.MultiHeadSelfAttention
    layer = kind(H, K, score=ka.DotProduct(scale=1.25), kernel=kernel)
    arguments = (x, x) if cross else (x,)
    layer(*arguments)
    parts = (layer.query_projection, layer.memory_projection) if cross else (layer.in_projection,)
    kernels = np.concatenate([ops.convert_to_numpy(part.kernel) for part in parts], -1)
    heads = [part.reshape(B, T, H, K).transpose(0, 2, 1, 3) for part in np.split(x @ kernels, 3, axis=-1)]
    wanted, _ = oracle.attention(*heads, scale=1.25)
    wanted = wanted.transpose(0, 2, 1, 3).reshape(B, T, H * K) @ ops.convert_to_numpy(layer.out_projection.kernel)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(*arguments)), wanted, atol=1e-5)


def test_the_scale_reaches_the_steps(rng):
    x = rng.normal(size=(B, T, D)).astype("float32")
    scaled, plain = (
        ka.MultiHeadSelfAttention(2, mask=ka.Causal(), score=ka.DotProduct(scale=scale)) for scale in (1.25, None)
    )
    whole = ops.convert_to_numpy(scaled(x))
    plain.build(x.shape)
    plain.set_weights(scaled.get_weights())
    assert np.abs(whole - ops.convert_to_numpy(plain(x))).max() > 1e-3
    outputs, state = scaled.prefill(x[:, :3], None, T)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), whole[:, :3], atol=1e-5)
    outputs, _ = scaled.step(x[:, 3], state, 3)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), whole[:, 3], atol=1e-5)


def test_the_plain_score_has_no_weights():
    layer = ka.MultiHeadSelfAttention(2)
    layer.build((None, None, 8))
    assert len(layer.weights) == 4
    assert layer.score == ka.DotProduct()


@pytest.mark.parametrize("sinks", ["zeros", keras.initializers.Constant(2.0)], ids=["name", "object"])
def test_round_trip(sinks):
    score = ka.DotProduct(ka.LayerNorm(1e-3), 30, sinks, scale=0.25)
    assert ka.DotProduct.from_config(score.get_config()) == score
    assert score != ka.DotProduct(ka.LayerNorm(1e-3), 30, sinks)
    old = {name: value for name, value in score.get_config().items() if name != "scale"}  # saved before `scale`
    assert ka.DotProduct.from_config(old).scale is None
    layer = ka.MultiHeadSelfAttention(2, score=score)
    assert layer.__class__.from_config(layer.get_config()).score == score


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "rms"}, "`norm` must be a Norm of keras_attn or None. Received: norm='rms'"),
        ({"softcap": 0}, "`softcap` must be a positive number or None. Received: softcap=0"),
        ({"softcap": "30"}, "`softcap` must be a positive number"),
        ({"sinks": "sink"}, "sink"),
        ({"scale": 0}, "`scale` must be a positive number or None. Received: scale=0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ka.DotProduct(**arguments)


def test_a_score_of_another_kind_is_named():
    with pytest.raises(ValueError, match="`score` must be a DotProduct of keras_attn or None"):
        ka.MultiHeadSelfAttention(2, score=ka.AdditiveScore(3))
