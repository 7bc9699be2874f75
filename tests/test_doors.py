"""Small doors of all layers: lists, ragged tensors, shared positions, empty sequences, policies, short messages."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import masks
from keras_attn.base import tensors

B, T, S, D, M, H = 2, 3, 5, 8, 7, 2
LAYERS = {
    "attention": lambda **k: ka.MultiHeadSelfAttention(H, position=ka.Rotary(), **k),
    "blockwise": lambda **k: ka.MultiHeadSelfAttention(H, position=ka.Alibi(), kernel="blockwise", **k),
    "encoder-decoder": lambda **k: ka.EncoderDecoderAttention(H, **k),
    "encoder-block": lambda **k: ka.EncoderBlock(H, 11, position=ka.RelativeBias(8, 5, **k), **k),
    "decoder-block": lambda **k: ka.DecoderBlock(H, 11, **k),
    "encoder": lambda **k: ka.Encoder(2, ka.EncoderBlock(H, 11, **k), **k),
    "decoder": lambda **k: ka.Decoder(2, ka.DecoderBlock(H, 11, **k), **k),
    "additive": lambda **k: ka.AdditiveRNNAttention(3, **k),
    "rnn": lambda **k: ka.RNNAttention(keras.layers.LSTMCell(3, **k), ka.MultiplicativeScore(**k), **k),
    "feed-forward": lambda **k: ka.FeedForward(11, **k),
    "gated": lambda **k: ka.GatedFeedForward(11, **k),
    "sinusoidal": lambda **k: ka.Sinusoidal(**k),
    "learned": lambda **k: ka.Learned(13, **k),
}
READERS = ["encoder-decoder", "decoder-block", "decoder", "additive", "rnn"]
SCORED = [name for name in LAYERS if name not in ("feed-forward", "gated", "sinusoidal", "learned")]
POSITIONED = ["attention", "blockwise", "encoder-block", "decoder-block", "encoder", "decoder", "sinusoidal", "learned"]
each = pytest.mark.parametrize("name", LAYERS)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.fixture(scope="module")
def built():
    """Every layer, built once, and its tensors."""
    rng = np.random.default_rng(3)
    x, memory = rng.normal(size=(B, T, D)).astype("float32"), rng.normal(size=(B, S, M)).astype("float32")
    found = {}
    for name, make in LAYERS.items():
        tensors = (x, memory) if name in READERS else (x,)
        found[name] = make(), tensors
        found[name][0](*tensors)
    return found


def arguments_of(layer):
    """The arguments of a layer's call that are tensors beside its sequences, and arrays that fit."""
    sizes = {"B": B, "T": T, "S": S, "H": H}
    found = {}
    for name, letters in {**layer.axes, **layer.score_masks}.items():
        if name in ("inputs", "memory", "query"):
            continue
        shape = [sizes[letter] for letter in letters]
        if name.endswith("ids"):
            found[name] = np.ones(shape, "int32")
        elif name == "positions":
            found[name] = np.broadcast_to(np.arange(T, dtype="int32") + 2, shape)
        else:
            found[name] = np.arange(np.prod(shape)).reshape(shape) % 3 > 0
    return found


@each
def test_nested_lists_are_arrays(name, built):
    layer, tensors = built[name]
    arguments = arguments_of(layer)
    wanted = numpy(layer(*tensors, **arguments))
    lists = {argument: array.tolist() for argument, array in arguments.items()}
    np.testing.assert_array_equal(numpy(layer(*tensors, **lists)), wanted)
    np.testing.assert_allclose(numpy(layer(*(x.tolist() for x in tensors), **lists)), wanted, atol=1e-6)


@each
def test_lists_with_rows_of_different_lengths_are_named(name, built):
    layer, tensors = built[name]
    for argument in arguments_of(layer):
        with pytest.raises(ValueError, match=f"`{argument}` must have rows of one length: pad them"):
            layer(*tensors, **{argument: [[1], [1, 2]]})
        with pytest.raises(ValueError, match=f"`{argument}` must be a tensor, an array or a list of numbers"):
            layer(*tensors, **{argument: "all"})


@pytest.mark.tensorflow  # ragged tensors of TensorFlow
@each
def test_ragged_tensors_are_named(name, built):
    import tensorflow as tf

    layer, tensors = built[name]
    ragged = tf.ragged.constant([[1, 2, 1], [1]])
    for argument in arguments_of(layer):
        with pytest.raises(
            ValueError, match=rf"`{argument}` must have rows of one length: .*`.to_tensor\(\)`.*padding mask"
        ):
            layer(*tensors, **{argument: ragged})
    first = next(iter(layer.axes))
    with pytest.raises(ValueError, match=f"`{first}` must have rows of one length"):
        layer(tf.RaggedTensor.from_tensor(tensors[0]), *tensors[1:])
    with pytest.raises(ValueError, match=f"`{first}` must have rows of one length"):
        LAYERS[name]()(keras.KerasTensor((None, None, D), ragged=True), *tensors[1:])


@each
def test_float_padding_masks_are_refused_at_every_call(name, built):
    layer, tensors = built[name]
    for argument, array in arguments_of(layer).items():
        if not argument.endswith("mask"):
            continue
        words = "must be boolean" if argument in layer.score_masks else "must be a padding mask of booleans"
        with pytest.raises(ValueError, match=f"`{argument}` {words}.*{argument}.dtype=float32") as error:
            layer(*tensors, **{argument: array.astype("float32")})
        assert ("bias" in str(error.value)) == (argument in layer.score_masks)
        symbolic = [keras.KerasTensor((None, *x.shape[1:])) for x in tensors]
        with pytest.raises(ValueError, match=f"`{argument}` {words}"):
            layer(*symbolic, **{argument: keras.KerasTensor((None, *array.shape[1:]), "float32")})
        if argument in ("inputs_mask", "query_mask"):  # as a layer before it may have left one
            symbolic[0]._keras_mask = keras.KerasTensor((None, T), "float32")
            with pytest.raises(ValueError, match="must be a padding mask of booleans"):
                layer(*symbolic)


@pytest.mark.parametrize("name", POSITIONED)
def test_positions_of_one_row_serve_all(name, built):
    layer, tensors = built[name]
    row = np.array([3, 0, 2])
    wanted = numpy(layer(*tensors, positions=np.stack([row] * B)))
    for positions in (row, row[None], row.tolist(), ops.convert_to_tensor(row[None])):
        np.testing.assert_allclose(numpy(layer(*tensors, positions=positions)), wanted, atol=1e-6)
    inputs = [keras.Input((None, x.shape[-1])) for x in tensors]
    one_row = keras.Input(batch_shape=(1, None), dtype="int32")
    assert layer(*inputs, positions=one_row).shape == (None, None, D)
    with pytest.raises(ValueError, match=r"`positions` must have shape \[B, T\] with T=3.*positions.shape=\(1, 2\)"):
        layer(*tensors, positions=row[None, :2])
    with pytest.raises(ValueError, match=r"`positions` must have shape \[B, T\] with B=2.*positions.shape=\(3, 3\)"):
        layer(*tensors, positions=np.zeros((3, 3), int))


EMPTY = [(name, t, s) for name in LAYERS for t, s in ((0, S), (T, 0), (0, 0)) if s == S or name in READERS]


@pytest.mark.parametrize(("name", "length", "memory_length"), EMPTY)
@pytest.mark.parametrize("masked", [False, True])
def test_empty_sequences_have_a_result(name, length, memory_length, masked, built):
    layer, tensors = built[name]
    tensors = [x[:, :n] for x, n in zip(tensors, (length, memory_length))]
    named = {}
    if masked:
        lengths = {"T": length, "S": memory_length}
        named = {
            argument: np.ones((B, lengths[letters[1]]), bool)
            for argument, letters in layer.axes.items()
            if argument.endswith("mask")
        }
    outputs = numpy(layer(*tensors, **named))
    assert outputs.shape[:2] == (B, length)
    assert np.all(np.isfinite(outputs))
    if name in ("additive", "rnn") and not memory_length:
        np.testing.assert_array_equal(outputs[..., 3:], 0)  # the context
    if name in ("encoder-decoder",) and not memory_length:
        np.testing.assert_array_equal(outputs, np.broadcast_to(layer.out_projection.bias, outputs.shape))
    symbolic = [keras.KerasTensor(x.shape) for x in tensors]
    assert tuple(layer(*symbolic).shape) == outputs.shape
    if name in SCORED:
        _, scores = layer(*tensors, **named, return_attention_scores=True)
        assert 0 in scores.shape
        assert tuple(layer(*symbolic, return_attention_scores=True)[1].shape) == tuple(scores.shape)


@pytest.mark.tensorflow  # graphs of TensorFlow
@each
def test_empty_sequences_have_a_result_in_graphs(name, built):
    import tensorflow as tf

    layer, tensors = built[name]
    readers = name in READERS
    specs = [tf.TensorSpec((None, None, x.shape[-1])) for x in tensors]
    padding = tf.TensorSpec((None, None), tf.bool)
    masked = [argument for argument in layer.axes if argument.endswith("_mask")]
    named = {argument: padding for argument in masked}

    @tf.function(input_signature=[specs, named])
    def graph(tensors, named):
        scored = layer(*tensors, **named, return_attention_scores=True) if name in SCORED else ()
        return layer(*tensors, **named), scored

    for length, memory_length in ((0, S), (T, 0), (0, 0), (T, S)) if readers else ((0, S), (T, S)):
        cut = [tf.constant(x[:, :n]) for x, n in zip(tensors, (length, memory_length))]
        lengths = dict(zip(masked, (length, memory_length)))
        named = {argument: tf.ones((B, lengths[argument]), bool) for argument in masked}
        outputs, scored = graph(cut, named)
        np.testing.assert_allclose(outputs, layer(*cut), atol=1e-5)
        if name in SCORED:
            wanted = layer(*cut, return_attention_scores=True)[1]
            np.testing.assert_allclose(scored[1], wanted, atol=1e-5)


STEPS = {
    "attention": lambda: ka.MultiHeadSelfAttention(H, mask=ka.Causal()),
    "encoder-block": lambda: ka.EncoderBlock(H, 11, mask=ka.Causal()),
    "encoder": lambda: ka.Encoder(2, ka.EncoderBlock(H, 11, mask=ka.Causal())),
    "decoder-block": lambda: ka.DecoderBlock(H, 11),
    "decoder": LAYERS["decoder"],
    "additive": LAYERS["additive"],
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_take_lists(name, rng):
    layer, x = STEPS[name](), rng.normal(size=(B, T, D)).astype("float32")
    memory = rng.normal(size=(B, S, M)).astype("float32")
    if name in READERS:
        mask = np.arange(S) < np.array([[5], [2]])
        whole = layer(x, memory, memory_mask=mask)
        state = layer.init_state(memory.tolist(), mask.tolist(), max_length=T)
    else:
        whole = layer(x)
        state = layer.init_state(B, T)
        outputs, _ = layer.prefill(x.tolist(), [T, 1], T)
        np.testing.assert_allclose(numpy(outputs)[0], numpy(whole)[0], atol=1e-5)
        with pytest.raises(ValueError, match=r"`lengths` must have shape \[B\] with B=2"):
            layer.prefill(x, [T], T)
    outputs, _ = layer.step(x[:, 0].tolist(), state, [0, 0])
    np.testing.assert_allclose(numpy(outputs), numpy(whole)[:, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["attention", "encoder-block", "encoder"])
def test_a_prefill_of_nothing_is_a_state_without_anything(name, rng):
    layer, x = STEPS[name](), rng.normal(size=(B, T, D)).astype("float32")
    whole = numpy(layer(x))
    outputs, state = layer.prefill(x[:, :0], [0, 0], T)
    assert tuple(outputs.shape) == (B, 0, D)
    for index in range(T):
        y, state = layer.step(x[:, index], state, index)
        np.testing.assert_allclose(numpy(y), whole[:, index], atol=1e-5)


POLICIES = ["attention", "encoder-block", "decoder-block", "encoder", "decoder", "additive", "rnn", "feed-forward"]


@pytest.mark.parametrize("name", POLICIES)
def test_another_dtype_in_the_config_reaches_every_part(name, built):
    trained = LAYERS[name](dtype="mixed_bfloat16")
    tensors = built[name][1]
    trained(*tensors)
    config = trained.get_config()
    for dtype in ("float32", keras.saving.serialize_keras_object(keras.DTypePolicy("float32"))):
        layer = trained.__class__.from_config({**config, "dtype": dtype})
        layer(*tensors)
        policies = {part.dtype_policy.name for part in layer._flatten_layers()}
        assert policies == {"float32"}
        layer.set_weights(trained.get_weights())
        exact = built[name][0].__class__.from_config(built[name][0].get_config())
        exact(*tensors)
        exact.set_weights(trained.get_weights())
        np.testing.assert_allclose(numpy(layer(*tensors)), numpy(exact(*tensors)), atol=1e-6)


def test_another_dtype_leaves_parts_of_a_policy_of_their_own():
    inside = keras.Sequential(
        [keras.layers.Dense(D, dtype="mixed_bfloat16"), keras.layers.Activation("linear", dtype="float32")],
    )
    block = ka.EncoderBlock(H, 11, feed_forward=inside, dtype="mixed_bfloat16")
    again = ka.EncoderBlock.from_config({**block.get_config(), "dtype": "float16"})
    names = [layer.dtype_policy.name for layer in again.feed_forward.layers]
    assert names == ["float16", "float32"]


def test_models_are_cloned_under_another_policy():
    """As Keras does it: `clone_model` with a function that changes each layer's config."""
    inputs = keras.Input((None, D))
    stack = ka.Encoder(2, ka.EncoderBlock(H, 11, dtype="mixed_bfloat16"), dtype="mixed_bfloat16")
    model = keras.Model(inputs, stack(inputs))

    def exact(layer):
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    again = keras.models.clone_model(model, clone_function=exact)
    again.set_weights(model.get_weights())
    x = np.ones((B, T, D), "float32")
    np.testing.assert_allclose(numpy(again(x)), numpy(ops.cast(model(x), "float32")), atol=0.1)
    assert keras.backend.standardize_dtype(again(x).dtype) == "float32"


def test_attention_units_beside_a_score_are_refused():
    with pytest.raises(ValueError, match="`attention_units` is the size of the default score and must be None"):
        ka.AdditiveRNNAttention(4, attention_units=3, score=ka.MultiplicativeScore())
    with pytest.raises(ValueError, match="attention_units=3, score=<AdditiveScore.* with units=5"):
        ka.AdditiveRNNAttention(4, attention_units=3, score=ka.AdditiveScore(5))
    assert ka.AdditiveRNNAttention(4, attention_units=5, score=ka.AdditiveScore(5)).attention_units == 5
    layer = ka.AdditiveRNNAttention(4, attention_units=3)
    assert ka.AdditiveRNNAttention.from_config(layer.get_config()).attention_units == 3


BIG = np.arange(100_000.0).reshape(100, 1000)
BAD = {
    "mask": lambda: ka.MultiHeadSelfAttention(H, mask=BIG),
    "joined-mask": lambda: ka.MultiHeadSelfAttention(H, mask=ka.Causal() & masks.Padding(BIG > 3, BIG > 3)),
    "call-mask": lambda: ka.EncoderBlock(H, 11, mask=masks.Segments(BIG.astype(int), BIG.astype(int))),
    "position": lambda: ka.EncoderBlock(H, 11, position=BIG),
    "residual": lambda: ka.EncoderBlock(H, 11, residual=BIG),
    "attention": lambda: ka.EncoderBlock(H, 11, attention=BIG),
    "feed_forward": lambda: ka.EncoderBlock(H, 11, feed_forward=BIG.tolist()),
    "memory_attention": lambda: ka.DecoderBlock(H, 11, memory_attention=BIG),
    "num_heads": lambda: ka.EncoderBlock(BIG, 11),
    "hidden_size": lambda: ka.FeedForward(BIG),
    "dropout": lambda: ka.FeedForward(11, dropout=BIG),
    "block": lambda: ka.Encoder(2, BIG),
    "num_layers": lambda: ka.Encoder(BIG),
    "cell": lambda: ka.RNNAttention(BIG, ka.MultiplicativeScore()),
    "score": lambda: ka.RNNAttention(keras.layers.GRUCell(3), BIG),
    "kernel": lambda: ka.MultiHeadSelfAttention(H, kernel=BIG),
    "base": lambda: ka.Rotary(base=BIG),
    "fraction": lambda: ka.Rotary(fraction=BIG),
    "factor": lambda: ka.LinearScaling(BIG),
    "softcap": lambda: ka.DotProduct(softcap=BIG),
    "function": lambda: masks.Where(BIG),
    "left": lambda: masks.Window(BIG),
    "operator": lambda: ka.Causal() & BIG,
    "convert": lambda: ka.convert.from_keras(BIG, None),
    "initial_state": lambda: ka.AdditiveRNNAttention(4)(BIG[None], BIG[None], initial_state=[BIG, BIG.tolist()]),
    "positions": lambda: ka.MultiHeadSelfAttention(H)(BIG[None], positions=BIG.tolist()),
    "padding": lambda: ka.MultiHeadSelfAttention(H)(BIG[None], mask=[*BIG.tolist(), [1]]),
    "words": lambda: ka.MultiHeadSelfAttention(H)(BIG[None], mask=[["a"] * 1000] * 100),
    "future": lambda: stepwise(ka.MultiHeadSelfAttention(H, mask=masks.Where(lambda query, key: key == key))),
}


def stepwise(layer):
    layer(np.ones((1, 2, D), "float32"))
    return layer.init_state(1, 3)


@pytest.mark.parametrize("name", BAD)
def test_messages_are_short_and_print_no_arrays(name):
    with pytest.raises(ValueError, match="Received|must") as error:
        BAD[name]()
    message = str(error.value)
    assert len(message) < 700
    assert "..., " not in message.replace(", ...]", "")
    assert "0., " not in message


def test_descriptions_give_dtype_and_shape():
    assert tensors.short_repr(BIG) == "<ndarray of dtype float64 and shape (100, 1000)>"
    assert "dtype int32 and shape (2, 3)" in tensors.short_repr(keras.KerasTensor((2, 3), "int32"))
    assert tensors.short_repr(masks.Padding(BIG, None)) == (
        "Padding(query_mask=<ndarray of dtype float64 and shape (100, 1000)>, key_mask=None)"
    )
    assert tensors.short_repr(ka.Causal() & ka.Window(3)) == "And(first=Causal(), second=Window(left=3, right=None))"
    assert len(tensors.short_repr([list(range(1000))] * 1000)) < 300
    assert len(tensors.short_repr("x" * 10_000)) < 300
