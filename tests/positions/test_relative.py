"""Biases by distance: the papers' numbers, explicit positions, offsets, both kernels."""

import math

import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import kernels, masks
from tests import oracle

B, T, H, K = 2, 7, 3, 4


@pytest.mark.parametrize(
    ("num_heads", "slopes"),
    [
        (1, [2**-8]),
        (8, [2.0**-h for h in range(1, 9)]),
        (3, [2**-4, 2**-8, 2**-2]),
        (12, [*(2.0**-h for h in range(1, 9)), *(2.0**-h for h in (0.5, 1.5, 2.5, 3.5))]),
    ],
)
def test_alibi_has_the_slopes_of_the_paper(num_heads, slopes):
    np.testing.assert_allclose(ka.Alibi().bias(num_heads).slopes, slopes)


def test_alibi_scores_equal_the_oracle(rng):
    layer = ka.MultiHeadSelfAttention(H, K, mask=ka.Causal(), position=ka.Alibi(), use_bias=False)
    x = rng.normal(size=(B, T, 5)).astype("float32")
    _, scores = layer(x, return_attention_scores=True)
    projected = x @ ops.convert_to_numpy(layer.in_projection.kernel)
    query, key, value = (part.reshape(B, T, H, K).transpose(0, 2, 1, 3) for part in np.split(projected, 3, axis=-1))
    index = np.arange(T)
    bias = -np.array([2**-4, 2**-8, 2**-2])[:, None, None] * np.abs(index[:, None] - index)
    wanted = oracle.attention(query, key, value, np.tri(T, dtype=bool), bias)[1]
    np.testing.assert_allclose(ops.convert_to_numpy(scores), wanted, atol=1e-5)


def t5_bucket(relative, bidirectional, num_buckets, max_distance):
    """The bucket of key position minus query position, as the T5 paper's code has it, in float32."""
    bucket, distance = 0, -relative
    if bidirectional:
        num_buckets //= 2
        bucket, distance = num_buckets * (relative > 0), abs(relative)
    distance, exact = max(distance, 0), num_buckets // 2
    if distance < exact:
        return bucket + distance
    ratio = np.log(np.float32(distance) / exact) / np.float32(math.log(max_distance / exact))
    return bucket + min(exact + int(ratio * (num_buckets - exact)), num_buckets - 1)


@pytest.mark.parametrize("sizes", [(32, 128), (8, 20), (6, 50), (4, 9)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_t5(sizes, bidirectional):
    buckets = ka.RelativeBias(*sizes, bidirectional=bidirectional).buckets()
    furthest = sizes[1]
    wanted = [t5_bucket(distance, bidirectional, *sizes) for distance in range(-furthest, furthest + 1)]
    np.testing.assert_array_equal(buckets, wanted)


@pytest.mark.parametrize("kernel", ["dense", "blockwise"])
@pytest.mark.parametrize("explicit", [False, True])
def test_relative_bias_is_its_table(kernel, explicit, rng):
    x, positions = rng.normal(size=(B, T, 6)).astype("float32"), rng.integers(0, 40, (B, T))
    layer = ka.MultiHeadSelfAttention(H, K, position=ka.RelativeBias(8, 20), kernel=kernel)
    layer.build(x.shape)
    layer.position.table.assign(rng.normal(size=(8, H)))
    outputs = layer(x, positions=positions if explicit else None)
    where = positions if explicit else np.broadcast_to(np.arange(T), (B, T))
    table, bias = ops.convert_to_numpy(layer.position.table), np.zeros((B, H, T, T))
    for b, i, j in np.ndindex(B, T, T):
        bias[b, :, i, j] = table[t5_bucket(where[b, j] - where[b, i], True, 8, 20)]
    plain = ka.MultiHeadSelfAttention(H, K)
    plain.build(x.shape)
    plain.set_weights([*layer.in_projection.get_weights(), *layer.out_projection.get_weights()])
    query, key, value = plain._heads(ops.convert_to_tensor(x), None)
    wanted = kernels.attention(query, key, value, bias=bias)
    wanted = plain.out_projection(ops.reshape(ops.transpose(wanted, (0, 2, 1, 3)), (B, T, H * K)))
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), ops.convert_to_numpy(wanted), atol=1e-5)


@pytest.mark.parametrize("make", [ka.Alibi, lambda: ka.RelativeBias(8, 20)], ids=["alibi", "relative"])
@pytest.mark.parametrize("kernel", ["dense", "blockwise"])
def test_a_step_into_a_cache_has_the_distances_of_the_whole(make, kernel, rng):
    """One query at an offset, among keys of which some are not written yet."""
    query, key, value = (ops.convert_to_tensor(rng.normal(size=(B, H, T, K)).astype("float32")) for _ in range(3))
    position = make()
    if isinstance(position, ka.RelativeBias):
        position.build((B, H, T, T))
        position.table.assign(rng.normal(size=(8, H)))
    whole = kernels.attention(query, key, value, mask=masks.Causal(), bias=position.bias(H), kernel=kernel)
    for offset in (0, 3, T - 1):
        step = kernels.attention(
            query[:, :, offset : offset + 1],
            key,
            value,
            mask=masks.Causal(),
            bias=position.bias(H),
            query_offset=offset,
            key_length=[offset + 1] * B,
            kernel=kernel,
        )
        np.testing.assert_allclose(
            ops.convert_to_numpy(step[:, :, 0]), ops.convert_to_numpy(whole[:, :, offset]), atol=1e-5
        )


def test_every_layer_of_a_stack_has_a_table_of_its_own():
    encoder = ka.Encoder(3, ka.EncoderBlock(2, 7, position=ka.RelativeBias()))
    encoder.build((None, None, 6))
    tables = [block.position.table for block in encoder.blocks]
    assert len({id(table) for table in tables}) == 3
    assert all(block.position is block.attention.position for block in encoder.blocks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_buckets": 0}, "`num_buckets` must be an integer of at least 1"),
        ({"num_buckets": 7}, "`num_buckets` must be even and at least 4. Received: num_buckets=7"),
        ({"num_buckets": 1, "bidirectional": False}, "at least 2"),
        ({"max_distance": 8}, "`max_distance` must be beyond the 8 distances .* Received: max_distance=8"),
        ({"max_distance": 0}, "`max_distance` must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ka.RelativeBias(**arguments)


def test_a_bias_of_another_dtype_policy_is_named():
    with pytest.raises(ValueError, match="`position` must have the dtype policy of the layer that holds it"):
        ka.MultiHeadSelfAttention(2, position=ka.RelativeBias(dtype="mixed_bfloat16"))


def test_a_table_for_other_heads_is_named():
    bias = ka.RelativeBias()
    ka.MultiHeadSelfAttention(2, position=bias).build((None, None, 6))
    with pytest.raises(ValueError, match="layers with different `num_heads`. Received: a table for 2 heads"):
        ka.MultiHeadSelfAttention(3, position=bias)(np.zeros((1, 2, 6), "float32"))
