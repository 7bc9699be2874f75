"""Stepwise decoding: each layer's steps equal its whole call, position by position."""

import collections

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import cache, masks
from keras_attn.base.state import map_rows
from keras_attn.base.tensors import is_array

B, T, S, D, M, H, HIDDEN = 3, 9, 7, 12, 13, 2, 17


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


def attention(**named):
    return ka.MultiHeadSelfAttention(H, **{"mask": ka.Causal(), **named})


def encoder(**named):
    return ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, mask=ka.Causal(), residual=ka.PreNorm(), **named), **named)


SELF = {
    "plain": attention,
    "grouped": lambda **k: attention(num_kv_heads=1, head_size=5, **k),
    "rotary": lambda **k: attention(
        position=ka.Rotary(scaling=ka.YarnScaling(4, 64)) if not k else ka.Rotary(), **{**k, "head_size": 6}
    ),
    "alibi": lambda **k: attention(position=ka.Alibi(), **k),
    "relative": lambda **k: attention(position=ka.RelativeBias(8, 5, **k), **k),
    "window": lambda **k: attention(mask=ka.Causal() & ka.Window(3), position=ka.Rotary(), **k),
    "window-relative": lambda **k: attention(mask=ka.Window(4, 1), position=ka.RelativeBias(8, 5, **k), **k),
    "dilated": lambda **k: attention(mask=ka.Causal() & masks.Dilated(2), **k),
    "global": lambda **k: attention(mask=ka.Causal() & (ka.Window(2) | masks.Global([1])), **k),
    "score": lambda **k: attention(score=ka.DotProduct(ka.RMSNorm(), 3.0, "ones"), **k),
    "scale": lambda **k: attention(score=ka.DotProduct(scale=1.25), use_bias=["in_projection"], **k),
    "block": lambda **k: ka.EncoderBlock(H, HIDDEN, mask=ka.Causal(), **k),
    "encoder": encoder,
    "sandwich": lambda **k: ka.EncoderBlock(H, HIDDEN, mask=ka.Causal(), residual=ka.SandwichNorm(), **k),
}
DECODERS = {
    "block": lambda **k: ka.DecoderBlock(H, HIDDEN, **k),
    "decoder": lambda **k: ka.Decoder(2, ka.DecoderBlock(H, HIDDEN, residual=ka.PreNorm(), **k), **k),
    "additive": lambda **k: ka.AdditiveRNNAttention(5, **k),
    "rnn": lambda **k: ka.RNNAttention(keras.layers.LSTMCell(5, **k), ka.MultiplicativeScore(**k), **k),
}
PRECISION = {"float32": 1e-5, "mixed_bfloat16": 3e-2, "mixed_float16": 4e-3}


@pytest.fixture
def ranks(monkeypatch):
    """The ranks of the first tensors with which each Keras layer is called, by the layer."""
    found, plain_call = collections.defaultdict(set), keras.layers.Layer.__call__

    def recording_call(layer, *args, **kwargs):
        found[layer].update({len(args[0].shape)} if args and is_array(args[0]) else ())
        return plain_call(layer, *args, **kwargs)

    monkeypatch.setattr(keras.layers.Layer, "__call__", recording_call)
    return found


@pytest.fixture
def x(rng):
    return rng.normal(size=(B, T, D)).astype("float32")


@pytest.fixture
def memory(rng):
    return rng.normal(size=(B, S, M)).astype("float32")


def run(layer, state, x, index=lambda position: position):
    """All steps one after the other: outputs `[B, T, D]`."""
    outputs = []
    for position in range(x.shape[1]):
        y, state = layer.step(x[:, position], state, index(position))
        outputs.append(numpy(y))
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("name", SELF)
@pytest.mark.parametrize("dtype", PRECISION)
def test_steps_of_self_attention_equal_the_whole_call(name, dtype, x):
    layer = SELF[name]() if dtype == "float32" else SELF[name](dtype=dtype)
    whole = numpy(layer(x))
    for index in (lambda position: position, lambda position: np.full(B, position)):
        steps = run(layer, layer.init_state(B, max_length=T), x, index)
        np.testing.assert_allclose(steps, whole, atol=PRECISION[dtype] * max(1, np.abs(whole).max()))


def check_one_rank_each(ranks):
    """Layers such as `LayerNormalization` may fix their axes for the rank of their build."""
    assert len(ranks) > 1
    assert not {layer.path: each for layer, each in ranks.items() if len(each) > 1}


@pytest.mark.parametrize("name", SELF)
def test_steps_call_the_parts_of_self_attention_with_the_rank_of_the_whole_call(name, ranks, x):
    layer = SELF[name]()
    layer(x)
    layer.step(x[:, 0], layer.init_state(B, max_length=T), 0)
    _, state = layer.prefill(x, np.array([2, 1, 3]), max_length=T)
    layer.step(x[:, 0], state, 3)
    check_one_rank_each(ranks)


@pytest.mark.parametrize("name", DECODERS)
def test_steps_call_the_parts_of_a_decoder_with_the_rank_of_the_whole_call(name, ranks, x, memory):
    layer = DECODERS[name]()
    layer(x, memory)
    layer.step(x[:, 0], layer.init_state(memory, max_length=T), 0)
    check_one_rank_each(ranks)


@pytest.mark.parametrize("make", [ka.models.Transformer, ka.models.RNNSeq2Seq, ka.models.CausalTransformer])
def test_steps_call_the_parts_of_a_recipe_with_the_rank_of_the_whole_call(make, ranks):
    if make is ka.models.RNNSeq2Seq:
        model = make(11, 11, size=8)
    else:
        model = make(*[11] * (make is ka.models.Transformer), 11, num_layers=2, size=8, num_heads=2, hidden_size=13)
    ids = np.array([[5, 6, 2]])
    model({"source": ids, "target": ids} if len(model.inputs) == 2 else {"target": ids})
    model.step(ids[:, 0], model.init_state(ids, max_length=T), 0)
    check_one_rank_each(ranks)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("masked", [False, True])
def test_steps_of_decoders_equal_the_whole_call(name, dtype, masked, x, memory, rng):
    layer = DECODERS[name]() if dtype == "float32" else DECODERS[name](dtype=dtype)
    mask = np.arange(S) < np.array([[7], [0], [3]]) if masked else None
    whole, scores = layer(x, memory, memory_mask=mask, return_attention_scores=True)
    state = layer.init_state(memory, mask, max_length=T)
    whole = numpy(whole)
    steps = run(layer, state, x)
    np.testing.assert_allclose(steps, whole, atol=PRECISION[dtype] * max(1, np.abs(whole).max()))
    for position in range(3):
        (_, step_scores), state = layer.step(x[:, position], state, position, return_attention_scores=True)
        wanted = numpy(scores)[..., position, :]
        np.testing.assert_allclose(numpy(step_scores), wanted, atol=PRECISION[dtype])


@pytest.mark.parametrize("name", ["plain", "window", "encoder"])
def test_rows_may_stand_at_different_positions(name, x):
    """Row b starts two positions per row later than the one before; each equals its own whole call."""
    layer = SELF[name]()
    whole = numpy(layer(x))
    late = 2 * np.arange(B)
    state = layer.init_state(B, max_length=T)
    for step in range(T):
        index = np.clip(step - late, 0, None)
        y, state = layer.step(x[np.arange(B), index], state, index)
        for row in range(B):
            np.testing.assert_allclose(numpy(y)[row], whole[row, index[row]], atol=1e-5)


@pytest.mark.parametrize("name", SELF)
@pytest.mark.parametrize(
    "kind",
    [cache.ExactCache(), cache.ExactCache(dtype="bfloat16"), cache.Int8Cache()],
    ids=["exact", "bfloat16", "int8"],
)
def test_prefill_and_steps_equal_the_whole_call(name, kind, x):
    """Prompts of 1, 4 and 6 positions, then steps: rolling caches wrap at different places per row."""
    layer = SELF[name]()
    whole = numpy(layer(x))
    atol = 1e-5 if kind == cache.ExactCache() else 0.03 * np.abs(whole).max()
    lengths = np.array([1, 4, 6])
    prompt = np.where(np.arange(6)[:, None] < lengths[:, None, None], x[:, :6], np.nan).astype("float32")
    outputs, state = layer.prefill(prompt, lengths, max_length=T, cache=kind)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(numpy(outputs)[row, :length], whole[row, :length], atol=1e-5)
    for step in range(T - 6):
        index = lengths + step
        y, state = layer.step(x[np.arange(B), index], state, index)
        np.testing.assert_allclose(numpy(y), whole[np.arange(B), index], atol=atol)


@pytest.mark.parametrize("name", ["plain", "block", "encoder"])
def test_prefill_in_mixed_precision(name, x):
    layer = SELF[name](dtype="mixed_bfloat16")
    whole = numpy(layer(x))
    outputs, _ = layer.prefill(x, [T] * B, max_length=T)
    np.testing.assert_allclose(numpy(outputs), whole, atol=3e-2 * np.abs(whole).max())


def test_int8_cache_is_within_its_bound(rng):
    """A position's largest number is 127 steps: its own numbers move by half a step at most."""
    heads = rng.normal(size=(2, 3, 1, 5)).astype("float32")
    kind = cache.Int8Cache()
    state = kind.empty(2, 3, 7, (5, 5), "float32")
    assert {name: keras.backend.standardize_dtype(tensor.dtype) for name, tensor in state.kept.items()} == {
        "key": "int8",
        "key_scale": "float32",
        "value": "int8",
        "value_scale": "float32",
    }
    _, key, value, index = kind.append(state, heads, 0 * heads, np.array([[2]]))
    assert index.shape[0] == 1
    largest = np.abs(heads).max(-1)
    assert np.all(np.abs(numpy(key)[:, :, 2] - heads[:, :, 0]) <= largest / 254 * 1.001)
    np.testing.assert_array_equal(numpy(value), 0)
    np.testing.assert_array_equal(numpy(key)[:, :, [0, 1, 3]], 0)


def test_a_window_bounds_the_cache(x):
    layer = SELF["window"]()
    layer(x)
    state = layer.init_state(B)
    places = 3 + 1  # one to spare
    assert [tuple(tensor.shape) for tensor in state.kept.values()] == [(B, H, places, D // H)] * 2
    assert tuple(state.index.shape) == (B, places)


def test_a_state_of_one_row_serves_any_number(x):
    layer = attention()
    whole = numpy(layer(x))
    np.testing.assert_allclose(run(layer, layer.init_state(max_length=T), x), whole, atol=1e-5)


def test_a_state_may_be_used_twice(x):
    """Steps are functions: two continuations of one state do not see each other."""
    layer = attention()
    whole = numpy(layer(x))
    _, state = layer.step(x[:, 0], layer.init_state(B, max_length=T), 0)
    layer.step(x[:, 5], state, 1)
    y, _ = layer.step(x[:, 1], state, 1)
    np.testing.assert_allclose(numpy(y), whole[:, 1], atol=1e-5)


@pytest.mark.parametrize("name", ["block", "decoder"])
def test_beams_share_the_memory(name, x, memory):
    layer = DECODERS[name]()
    whole = numpy(layer(np.repeat(x, 2, 0), np.repeat(memory, 2, 0)))
    state = layer.init_state(memory, max_length=T)
    shared = [each.memory_attention.value for each in (state if name == "decoder" else [state])]
    assert all(part.key.shape[0] == B for part in shared)
    state = map_rows(lambda tensor: ops.repeat(tensor, 2, axis=0), state)
    np.testing.assert_allclose(run(layer, state, np.repeat(x, 2, 0)), whole, atol=1e-5)


def test_bad_input_is_named(x, memory):
    layer = attention()
    with pytest.raises(ValueError, match="must be built before it decodes"):
        layer.init_state(B, max_length=T)
    layer(x)
    with pytest.raises(ValueError, match="`max_length` must be given: `mask` has no limit on how far back it reaches"):
        layer.init_state(B)
    with pytest.raises(ValueError, match="`max_length` must be an integer of at least 1. Received: max_length=0"):
        layer.init_state(B, max_length=0)
    state = layer.init_state(B, max_length=4)
    with pytest.raises(
        ValueError, match="`index` must be less than max_length=4, and not negative. Received: index up to 4"
    ):
        layer.step(x[:, 0], state, 4)
    with pytest.raises(ValueError, match=r"`inputs` must have 2 axes, \[B, D\]"):
        layer.step(x, state, 0)
    with pytest.raises(ValueError, match=r"`inputs` must have shape \[B, D\] with D=12"):
        layer.step(x[:, 0, :5], state, 0)
    with pytest.raises(ValueError, match="`index` must be less than max_length=4, and not negative. .* from -1"):
        layer.step(x[:, 0], state, -1)
    with pytest.raises(ValueError, match="`index` must be an integer"):
        layer.step(x[:, 0], state, 1.5)
    with pytest.raises(ValueError, match="`index` must have shape .* with B=3"):
        layer.step(x[:, 0], state, np.array([0, 1]))
    with pytest.raises(ValueError, match="`inputs` must have shape .* with .*B=3"):
        layer.step(x[:2, 0], state, 0)
    with pytest.raises(ValueError, match="`lengths` must have shape .* with B=3"):
        layer.prefill(x, [1, 2], max_length=T)
    with pytest.raises(ValueError, match="`inputs` may have at most max_length=4 positions"):
        layer.prefill(x, [1, 2, 3], max_length=4)
    for mask in (None, ka.Window(3), ~ka.Causal()):
        ahead = attention(mask=mask)
        ahead(x)
        with pytest.raises(ValueError, match="`mask` must hide the future to decode step by step"):
            ahead.init_state(B, max_length=T)


def test_a_foreign_attention_without_steps_is_named(x):
    class Copy(keras.layers.Layer):
        def call(self, inputs, **named):
            return inputs

    block = ka.EncoderBlock(H, HIDDEN, attention=Copy())
    block.build(x.shape)
    with pytest.raises(ValueError, match="`attention` must have `init_state` and `step` to decode step by step"):
        block.init_state(B, max_length=T)
