"""One road: chunks of any sizes, and steps, equal the whole call position by position."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import keras_attn as ka
from keras_attn import cache, masks

B, T, S, D, M, H, HIDDEN, V = 3, 11, 7, 12, 13, 2, 17, 19
MASKS = [ka.Causal(), ka.Causal() & ka.Window(4), ka.Causal() & masks.Dilated(2), ka.Causal() & masks.Blocks(3)]
POSITIONS = [lambda: None, ka.Rotary, ka.Alibi, lambda: ka.RelativeBias(8, 5)]
WIRINGS = [ka.PostNorm(), ka.PreNorm(ka.RMSNorm()), ka.InnerNorm()]
rng = np.random.default_rng(7)
X = rng.normal(size=(B, T, D)).astype("float32")
MEMORY = rng.normal(size=(B, S, M)).astype("float32")
MEMORY_MASK = np.arange(S) < np.array([[7], [2], [5]])
IDS = rng.integers(4, V, size=(B, T)).astype("int32")


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


def read_in_chunks(extend, x, state, draw, most=4, back=0):
    """Reads all of `x` `[B, T, ...]` in chunks that `draw` sizes, each row at its own pace; returns what came out.

    Behind a row's part of a chunk stand other numbers, which must not matter. With `back`, rows now and
    then read wrong numbers first and so many positions again, as rejected drafts are.
    """
    at, found = np.zeros(B, "int32"), {}
    while at.min() < T:
        counts = np.minimum([draw(most) for _ in range(B)], T - at).astype("int32")
        if back and draw(1):
            wrong = np.roll(x, 1, axis=0)
            _, state = extend(chunk_of(wrong, at, np.minimum(back, T - at)), state, at, np.minimum(back, T - at))
        outputs, state = extend(chunk_of(x, at, counts), state, at, counts)
        for row in range(B):
            for step in range(counts[row]):
                found[row, at[row] + step] = numpy(outputs)[row, step]
        at = at + counts
    return np.array([[found[row, position] for position in range(T)] for row in range(B)])


def chunk_of(x, at, counts):
    chunk = np.zeros((B, max(1, counts.max()), *x.shape[2:]), x.dtype) + 5
    for row in range(B):
        chunk[row, : counts[row]] = x[row, at[row] : at[row] + counts[row]]
    return chunk


SEEDS = st.integers(0, 2**32 - 1)  # of the sizes: drawn one by one, they would be too many for Hypothesis


def sizes(seed):
    numbers = np.random.default_rng(seed)
    return lambda most: int(numbers.integers(0, most + 1))


@functools.cache
def attention(mask, position):
    layer = ka.MultiHeadSelfAttention(H, mask=MASKS[mask], position=POSITIONS[position](), num_kv_heads=1)
    return layer, numpy(layer(X))


@settings(max_examples=24, deadline=None)
@given(SEEDS, st.integers(0, 3), st.integers(0, 3), st.sampled_from([0, 3]))
def test_chunks_of_self_attention_equal_the_whole_call(seed, mask, position, rewind):
    layer, whole = attention(mask, position)
    state = layer.init_state(B, T, cache.ExactCache(rewind))
    found = read_in_chunks(layer.extend, X, state, sizes(seed), back=1 + rewind)
    np.testing.assert_allclose(found, whole, atol=1e-5)


@settings(max_examples=4, deadline=None)
@given(SEEDS, st.integers(0, 3), st.integers(0, 3))
def test_chunks_equal_steps_with_an_int8_cache(seed, mask, position):
    layer, _ = attention(mask, position)
    state, steps = layer.init_state(B, T, cache.Int8Cache()), []
    for index in range(T):
        y, state = layer.step(X[:, index], state, index)
        steps.append(numpy(y))
    found = read_in_chunks(layer.extend, X, layer.init_state(B, T, cache.Int8Cache()), sizes(seed))
    atol = 1e-5 if MASKS[mask].reach is None else 0.03  # a chunk of a rolling cache reads itself unrounded
    np.testing.assert_allclose(found, np.stack(steps, axis=1), atol=atol)


@functools.cache
def decoder_only(wiring, kind):
    named = {"mask": MASKS[wiring % 2], "residual": WIRINGS[wiring], "position": ka.Rotary()}
    block = ka.EncoderBlock(H, HIDDEN, **named)
    layer = block if kind == "block" else ka.Encoder(2, block)
    return layer, numpy(layer(X))


@pytest.mark.parametrize("wiring", range(3))
@pytest.mark.parametrize("kind", ["block", "stack"])
@settings(max_examples=3, deadline=None)
@given(seed=SEEDS)
def test_chunks_of_decoder_only_layers_equal_the_whole_call(wiring, kind, seed):
    layer, whole = decoder_only(wiring, kind)
    state = layer.init_state(B, T, cache.ExactCache(2))
    np.testing.assert_allclose(read_in_chunks(layer.extend, X, state, sizes(seed), back=3), whole, atol=1e-5)


@functools.cache
def decoder(kind):
    layer = {
        "block": lambda: ka.DecoderBlock(H, HIDDEN),
        "stack": lambda: ka.Decoder(2, ka.DecoderBlock(H, HIDDEN, residual=ka.PreNorm())),
        "additive": lambda: ka.AdditiveRNNAttention(5),
        "rnn": lambda: ka.RNNAttention(keras.layers.LSTMCell(5), ka.MultiplicativeScore()),
    }[kind]()
    return layer, numpy(layer(X, MEMORY, memory_mask=MEMORY_MASK))


@pytest.mark.parametrize("kind", ["block", "stack", "additive", "rnn"])
@settings(max_examples=3, deadline=None)
@given(seed=SEEDS)
def test_chunks_of_decoders_equal_the_whole_call(kind, seed):
    layer, whole = decoder(kind)
    state = layer.init_state(MEMORY, MEMORY_MASK, max_length=T)
    back = 0 if kind in ("additive", "rnn") else 2
    np.testing.assert_allclose(read_in_chunks(layer.extend, X, state, sizes(seed), back=back), whole, atol=1e-5)


@functools.cache
def memory_attention():
    layer = ka.EncoderDecoderAttention(H)
    outputs, scores = layer(X, MEMORY, memory_mask=MEMORY_MASK, return_attention_scores=True)
    return layer, numpy(outputs), numpy(scores)


def test_a_chunk_reads_the_memory_with_its_scores():
    layer, whole, scores = memory_attention()
    lengths = np.array([2, 0, 5])
    state = layer.init_state(MEMORY, MEMORY_MASK)
    (outputs, found), _ = layer.extend(X[:, :5], state, 0, lengths, return_attention_scores=True)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(numpy(outputs)[row, :length], whole[row, :length], atol=1e-5)
        np.testing.assert_allclose(numpy(found)[row, :, :length], scores[row, :, :length], atol=1e-5)
        np.testing.assert_array_equal(numpy(found)[row, :, length:], 0)


def test_the_beams_of_a_row_share_the_memory_in_chunks():
    layer, whole, scores = memory_attention()
    beams = np.stack([X[:, :4], X[:, 4:8]], axis=1).reshape(2 * B, 4, D)
    state = layer.init_state(MEMORY, MEMORY_MASK)
    (outputs, found), _ = layer.extend(beams, state, return_attention_scores=True)
    np.testing.assert_allclose(numpy(outputs), whole[:, :8].reshape(2 * B, 4, D), atol=1e-5)
    wanted = scores[:, :, :8].reshape(B, H, 2, 4, S).transpose(0, 2, 1, 3, 4).reshape(2 * B, H, 4, S)
    np.testing.assert_allclose(numpy(found), wanted, atol=1e-5)


@functools.cache
def recipe(kind):
    size = {"size": 8, "num_heads": 2, "hidden_size": 13, "num_layers": 2}
    if kind == "causal":
        model = ka.models.CausalTransformer(V, **size, mask=ka.Causal() & ka.Window(5), position=ka.Learned(31))
        return model, numpy(model({"target": IDS}))
    model = ka.models.RNNSeq2Seq(V, V, size=8) if kind == "rnn" else ka.models.Transformer(V, V, **size)
    return model, numpy(model({"source": IDS[:, :S], "target": IDS}))


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
@settings(max_examples=2, deadline=None)
@given(seed=SEEDS)
def test_chunks_of_encoder_decoder_recipes_equal_the_whole_call(kind, seed):
    model, whole = recipe(kind)
    state = model.init_state(IDS[:, :S], T)
    np.testing.assert_allclose(read_in_chunks(model.extend, IDS, state, sizes(seed)), whole, atol=1e-5)


@settings(max_examples=2, deadline=None)
@given(seed=SEEDS)
def test_chunks_behind_prompts_equal_the_whole_call(seed):
    """The index counts from the step that reads the prompt's last token again."""
    model, whole = recipe("causal")
    lengths = np.array([1, 4, 2])
    prompts = np.where(np.arange(4) < lengths[:, None], IDS[:, :4], 0)
    draw, state, at = sizes(seed), model.init_state(prompts, T), np.zeros(B, "int32")
    while (lengths - 1 + at).min() < T:
        begin = lengths - 1 + at
        counts = np.minimum([draw(3) for _ in range(B)], T - begin)
        logits, state = model.extend(chunk_of(IDS, begin, counts) % V, state, at, counts)
        for row in range(B):
            wanted = whole[row, begin[row] : begin[row] + counts[row]]
            np.testing.assert_allclose(numpy(logits)[row, : counts[row]], wanted, atol=1e-5)
        at = at + counts


def test_scores_of_a_chunk_are_those_of_the_call():
    layer, _ = attention(0, 1)
    _, whole = layer(X, return_attention_scores=True)
    (_, first), state = layer.extend(X[:, :4], layer.init_state(B, T), 0, return_attention_scores=True)
    np.testing.assert_allclose(numpy(first), numpy(whole)[:, :, :4, :4], atol=1e-5)
    (_, later), _ = layer.extend(X[:, 4:7], state, 4, return_attention_scores=True)
    np.testing.assert_allclose(numpy(later)[..., :7], numpy(whole)[:, :, 4:7, :7], atol=1e-5)


def test_nan_behind_a_rows_length_stays_there():
    layer, whole = decoder_only(1, "stack")
    chunk = np.where(np.arange(4)[:, None] < np.array([4, 2, 0])[:, None, None], X[:, :4], np.nan).astype("float32")
    outputs, state = layer.extend(chunk, layer.init_state(B, T), 0, [4, 2, 0])
    np.testing.assert_allclose(numpy(outputs)[0], whole[0, :4], atol=1e-5)
    outputs, _ = layer.extend(X[:, 4:5], state, [4, 2, 0], [1, 0, 0])
    np.testing.assert_allclose(numpy(outputs)[0, 0], whole[0, 4], atol=1e-5)
    assert np.isfinite(numpy(outputs)).all()


@pytest.mark.parametrize("length", [1, 4])
def test_a_chunk_is_one_product_per_projection(length, monkeypatch):
    counts, plain_call = [], keras.layers.Dense.call

    def counting_call(layer, inputs, *args, **kwargs):
        counts.append(tuple(inputs.shape))
        return plain_call(layer, inputs, *args, **kwargs)

    layer = ka.Decoder(1, ka.DecoderBlock(H, HIDDEN))
    layer(X, MEMORY)
    state = layer.init_state(MEMORY, max_length=T)
    monkeypatch.setattr(keras.layers.Dense, "call", counting_call)
    layer.extend(X[:, :length], state, 2)
    projections = 2 + 2 + 2  # in and out; query and out, whose memory was read before; hidden and out
    assert [shape[0] for shape in counts] == [B * length] * projections


@pytest.mark.tensorflow  # counts operations of TensorFlow's graph
def test_the_graph_of_a_chunk_has_as_many_products_as_that_of_a_step():
    import tensorflow as tf

    layer, _ = decoder_only(1, "stack")

    def products(length):
        state = layer.init_state(B, T)
        graph = tf.function(lambda x: layer.extend(x, state, 2)[0]).get_concrete_function(X[:, :length]).graph
        return sorted(each.type for each in graph.get_operations() if "MatMul" in each.type)

    assert products(5) == products(1)


def test_the_kernel_and_the_tiles_of_a_prefill_are_those_of_the_call(monkeypatch):
    from keras_attn.kernels import dispatch

    chosen, choose = [], dispatch.choose_kernel

    def recording_choice(*args, **kwargs):
        chosen.append(choose(*args, **kwargs))
        return chosen[-1]

    monkeypatch.setattr(dispatch, "choose_kernel", recording_choice)
    x = np.random.default_rng(0).normal(size=(1, 1100, 4)).astype("float32")
    layer = ka.MultiHeadSelfAttention(1, mask=ka.Causal())
    whole = layer(x)
    outputs, _ = layer.prefill(x, [1100], 1100)
    np.testing.assert_allclose(numpy(outputs), numpy(whole), atol=1e-5)
    assert chosen[0] == chosen[1]
    assert chosen[0] != "dense"


def test_bad_chunks_are_named():
    layer, _ = attention(0, 0)
    state = layer.init_state(B, max_length=4)
    with pytest.raises(ValueError, match=r"`inputs` may have at most max_length=4 positions.*a chunk of 5"):
        layer.extend(X[:, :5], state, 0, [1, 1, 1])
    with pytest.raises(ValueError, match="`index` must be less than max_length=4.*index up to 4, from 2"):
        layer.extend(X[:, :3], state, 2)
    with pytest.raises(ValueError, match=r"`lengths` must have shape \[B\] with B=3"):
        layer.extend(X[:, :3], state, 0, [1, 2])
    with pytest.raises(ValueError, match=r"`inputs` must have 3 axes, \[B, T, D\]"):
        layer.extend(X[:, 0], state, 0)
    window, _ = attention(1, 0)
    state = window.init_state(B, cache=cache.ExactCache(rewind=2))
    _, state = window.extend(X[:, :9], state, 0)
    window.extend(X[:, 6:8], state, 6)
    with pytest.raises(ValueError, match=r"`index` must not go further back than the cache holds.*was 8.*only 6 and"):
        window.extend(X[:, 5:7], state, 5)
    other = ka.MultiHeadSelfAttention(3, mask=ka.Causal())
    other(X)
    with pytest.raises(ValueError, match=r"`state` must be one of this layer.*\(3, 3, 1, 4\).*\(3, 1, 5, 6\)"):
        other.extend(X[:, :1], layer.init_state(B, max_length=4), 0)
    with pytest.raises(ValueError, match="`state` must be from `init_state` of this layer. Received: state={'key': <"):
        layer.extend(X[:, :1], {"key": X}, 0)
