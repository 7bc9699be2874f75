"""What must hold whatever `keras.config.floatx()` is; `--floatx=float64` and the like choose it (see conftest.py).

Bounds follow the dtype: the same weights in float64 give the exact result, the plain call the error of one
pass through the model, and another order of the same roundings (steps, chunks) is within twice that error.
"""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import decoding, kernels, masks, models, training
from keras_attn.recurrent.cells import WideOrthogonal

FLOATX = keras.config.floatx()
EPSILON = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 2**-24, "float64": 2**-53}
if keras.config.backend() == "torch":  # Keras' `where` and `maximum` hand back float32 for float64 there
    EPSILON["float64"] = EPSILON["float32"]
B, T, S, D, M, H, HIDDEN = 3, 7, 5, 12, 13, 2, 17
LONG = 11003  # B * H * LONG places of a cache are more than 16 bits can number

SELF = {
    "no-bias": lambda: ka.MultiHeadSelfAttention(H, mask=ka.Causal(), use_bias=False),
    "plain": lambda: ka.MultiHeadSelfAttention(H, mask=ka.Causal()),
    "grouped-window": lambda: ka.MultiHeadSelfAttention(H, num_kv_heads=1, mask=ka.Causal() & ka.Window(3)),
    "rotary": lambda: ka.MultiHeadSelfAttention(H, mask=ka.Causal(), position=ka.Rotary()),
    "alibi": lambda: ka.MultiHeadSelfAttention(H, mask=ka.Causal(), position=ka.Alibi()),
    "relative": lambda: ka.MultiHeadSelfAttention(H, mask=ka.Causal(), position=ka.RelativeBias(8, 5)),
    "block": lambda: ka.EncoderBlock(H, HIDDEN, mask=ka.Causal()),
    "encoder": lambda: ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, mask=ka.Causal(), residual=ka.PreNorm())),
}
DECODERS = {
    "decoder": lambda: ka.Decoder(2, ka.DecoderBlock(H, HIDDEN)),
    "additive": lambda: ka.AdditiveRNNAttention(5),
    "luong": lambda: ka.LuongRNNAttention(D),
}
SIZES = {"num_layers": 1, "size": 12, "num_heads": 2, "hidden_size": 17}
WITHOUT_BIAS = {
    "memory": lambda: ka.EncoderDecoderAttention(H, use_bias=False),
    "feed-forward": lambda: ka.FeedForward(HIDDEN, use_bias=False),
    "gated": lambda: ka.GatedFeedForward(HIDDEN, use_bias=False),
}
V = 29
RECIPES = {
    "transformer": lambda: models.Transformer(V, V, **SIZES),
    "rnn": lambda: models.RNNSeq2Seq(V, V, size=11),
    "causal": lambda: models.CausalTransformer(V, **SIZES, position=ka.Rotary()),
}
STRATEGIES = {
    "greedy": decoding.Greedy(),
    "beam": decoding.Beam(3, num_return_sequences=2),
    "sample": decoding.Sample(0.9, top_k=13, top_p=0.95, min_p=0.01, seed=4),
}


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


@contextlib.contextmanager
def policy(name):
    """Makes layers of a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def exact_twin(make, layer, *args, **named):
    """The layer of `make` in float64 with the weights of `layer`, called once to be built."""
    with policy("float64"):
        twin = make()
        twin(*args, **named)
    twin.set_weights([numpy(weight) for weight in layer.get_weights()])
    return twin


def bound(plain, exact):
    """What another order of the roundings may differ from the exact result."""
    return 2 * np.abs(plain - exact).max() + 16 * EPSILON[FLOATX] * np.abs(exact).max()


def assert_within(found, exact, atol):
    np.testing.assert_allclose(found, exact, rtol=0, atol=atol)


@pytest.fixture
def x(rng):
    """Inputs that every dtype holds exactly."""
    return rng.integers(-64, 65, (B, T, D)) / 32.0


@pytest.fixture
def memory(rng):
    return rng.integers(-64, 65, (B, S, M)) / 32.0


def steps_of(layer, state, x, first=0):
    """The outputs of steps one after the other, `[B, T, D]`, and the last state."""
    outputs = []
    for position in range(first, x.shape[1]):
        y, state = layer.step(x[:, position], state, position)
        assert keras.backend.standardize_dtype(y.dtype) == FLOATX
        outputs.append(numpy(y))
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("name", SELF)
def test_steps_and_prefill_of_self_attention(name, x):
    layer = SELF[name]()
    plain = layer(x)
    assert keras.backend.standardize_dtype(plain.dtype) == layer.compute_dtype == FLOATX
    exact = numpy(exact_twin(SELF[name], layer, x)(x))
    atol = bound(numpy(plain), exact)
    assert_within(steps_of(layer, layer.init_state(B, max_length=LONG), x), exact, atol)
    prefilled, state = layer.prefill(x[:, :4], [4] * B, max_length=LONG)
    assert_within(numpy(prefilled), exact[:, :4], atol)
    assert_within(steps_of(layer, state, x, first=4), exact[:, 4:], atol)


@pytest.mark.parametrize("name", DECODERS)
def test_steps_of_decoders(name, x, memory):
    layer, mask = DECODERS[name](), np.arange(S) < np.array([[5], [2], [3]])
    plain = layer(x, memory, memory_mask=mask)
    exact = numpy(exact_twin(DECODERS[name], layer, x, memory)(x, memory, memory_mask=mask))
    found = steps_of(layer, layer.init_state(memory, mask, max_length=LONG), x)
    assert_within(found, exact, bound(numpy(plain), exact))


@pytest.mark.parametrize("name", WITHOUT_BIAS)
def test_outputs_without_bias(name, x, memory):
    layer = WITHOUT_BIAS[name]()
    outputs = layer(x, memory) if name == "memory" else layer(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == FLOATX


@pytest.mark.parametrize("kind", ["int64", "int32", "list"])
def test_integers_of_any_kind_are_the_same(kind, x, rng):
    """Positions, segment ids, lengths and indices, as NumPy makes them or as lists."""

    def given(value):
        return np.asarray(value).tolist() if kind == "list" else np.asarray(value, kind)

    layer = ka.EncoderBlock(H, HIDDEN, mask=ka.Causal(), position=ka.Rotary())
    layer(x)
    layer.set_weights([rng.integers(-8, 9, weight.shape) / 32.0 for weight in layer.get_weights()])  # held exactly
    segments = np.repeat([[1, 1, 1, 2, 2, 2, 0]], B, axis=0)
    places = np.repeat([[0, 1, 2, 0, 1, 2, 0]], B, axis=0)
    packed = numpy(layer(x, segment_ids=given(segments), positions=given(places)))
    whole, alone = numpy(layer(x)), numpy(layer(x[:, 3:6]))
    atol = 4 * EPSILON[FLOATX] * np.abs(whole).max()  # the same numbers in products of other shapes
    assert_within(packed[:, :3], whole[:, :3], atol)
    assert_within(packed[:, 3:6], alone, atol)
    _, state = layer.prefill(x, given([1, 4, 6]), max_length=T)
    y, _ = layer.step(x[np.arange(B), [1, 4, 6]], state, given([1, 4, 6]))
    assert_within(numpy(y), whole[np.arange(B), [1, 4, 6]], 4 * atol)
    heads = ops.convert_to_tensor(x[:, None], FLOATX)
    plain = kernels.attention(heads, heads, heads, mask=masks.Causal(), key_length=np.array([2, 3, 7], "int32"))
    found = kernels.attention(heads, heads, heads, mask=masks.Causal(), key_length=given([2, 3, 7]))
    np.testing.assert_array_equal(numpy(found), numpy(plain))


def test_positions_are_counted_in_integers():
    """Half precision tells neither 1000 from 1001 nor 256 from 257."""
    positions = np.array([[256, 257, 1000, 1001, 40000, 40001]])
    found = numpy(ka.Sinusoidal()(np.zeros((1, 6, 2)), positions=positions))
    wanted = np.stack([np.sin(positions), np.cos(positions)], axis=-1)
    assert_within(found, wanted, EPSILON[FLOATX] + 40001 * EPSILON["float32"])


@pytest.fixture(scope="module")
def recipes():
    """Each recipe, and its twin in float64."""
    made = {}
    for name, make in RECIPES.items():
        keras.utils.set_random_seed(3)
        model = make()
        head = model.get_layer("projection")
        head.kernel.assign(4 * ops.convert_to_numpy(ops.cast(head.kernel, "float32")))  # texts of several lengths
        made[name] = model, exact_twin(make, model, inputs_of(name, np.ones((1, 1), "int32"), np.ones((1, 1), "int32")))
    return made


def inputs_of(name, source, target):
    return {"target": target} if name == "causal" else {"source": source, "target": target}


SOURCE = np.array([[1, 5, 6, 7, 9], [1, 8, 0, 0, 0], [1, 9, 9, 0, 0]])


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", RECIPES)
def test_generation(name, strategy, recipes):
    """The score of each text is the sum of the log probabilities that the whole call gives its tokens."""
    model, exact = recipes[name]
    found = model.generate(
        SOURCE, STRATEGIES[strategy], max_length=T, processors=[decoding.BannedTokens([0]), decoding.MinLength(3)]
    )
    tokens, lengths = ops.convert_to_numpy(found.tokens), ops.convert_to_numpy(found.lengths)
    assert (tokens.dtype, lengths.dtype) == ("int32", "int32")
    assert keras.backend.standardize_dtype(found.scores.dtype) == "float32"
    prompts = [row[row != 0] if name == "causal" else np.array([1]) for row in np.repeat(SOURCE, tokens.shape[1], 0)]
    tokens, lengths, scores = tokens.reshape(-1, T), lengths.reshape(-1), numpy(found.scores).reshape(-1)
    target = np.zeros((len(prompts), SOURCE.shape[1] + T), "int32")
    for row, (prompt, text) in enumerate(zip(prompts, tokens)):
        target[row, : len(prompt) + T] = np.concatenate([prompt, text])
    inputs = inputs_of(name, np.repeat(SOURCE, len(target) // len(SOURCE), axis=0), target)
    plain, wanted = numpy(model(inputs)), numpy(exact(inputs))
    for row, (prompt, text, length) in enumerate(zip(prompts, tokens, lengths)):
        assert np.all(text[length:] == 0)
        known, sure = (
            log_probs(logits[row, len(prompt) - 1 :], strategy)[np.arange(length), text[:length]]
            for logits in (plain, wanted)
        )
        atol = 2 * length * np.abs(known - sure).max() + 16 * EPSILON["float32"] * np.abs(sure).sum()
        assert_within(scores[row], sure.sum(), atol)


def log_probs(logits, strategy):
    """Log probabilities of tokens. The processors of `test_generation` change them, but not those of a beam search."""
    if strategy != "beam":
        logits = np.where(np.arange(V) == 0, -np.inf, logits)
        logits = np.where((np.arange(V) == 2) & (np.arange(len(logits)) < 3)[:, None], -np.inf, logits)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.trains
@pytest.mark.parametrize("name", RECIPES)
def test_fit(name, rng):
    """The loss falls, and the metrics, Keras' steps and the schedule count as they should."""
    keras.utils.set_random_seed(5)
    model = RECIPES[name]()
    ids = rng.integers(4, V, (16, T)).astype("int64")
    ids[:, -1] = 2
    target = np.concatenate([np.ones((16, 1), "int64"), ids[:, :-1]], axis=1)
    metrics = [training.TokenAccuracy(), training.Perplexity(), training.SequenceAccuracy(), training.EditDistance()]
    model.compile(
        keras.optimizers.SGD(training.InverseSquareRoot(0.2, warmup_steps=4)),
        training.MaskedCrossentropy(label_smoothing=0.1),
        metrics=metrics,
    )
    batch = {"x": inputs_of(name, ids, target), "y": ids, "batch_size": 8, "verbose": 0}
    before = model.evaluate(**batch, return_dict=True)
    history = model.fit(**batch, epochs=4).history
    after = model.evaluate(**batch, return_dict=True)
    assert all(np.isfinite(float(value)) for values in history.values() for value in values)
    assert after["perplexity"] < before["perplexity"]
    assert after["loss"] < before["loss"]
    logits = numpy(model(batch["x"]))
    assert after["token_accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == ids), abs=1e-6)


def test_metrics_count_beyond_what_half_precision_can():
    """256 and 1 are 256 in bfloat16, 2,048 and 1 are 2,048 in float16."""
    labels = np.full((59, 41), 5)
    guesses = labels.copy()
    guesses[0, 0] = 7
    for metric, wanted in ((training.TokenAccuracy(), 1 - 1 / 2419), (training.EditDistance(), 1 / 2419)):
        metric.update_state(labels, guesses)
        assert float(metric.result()) == pytest.approx(wanted, rel=1e-6)


def test_labels_beyond_what_half_precision_can_tell_apart():
    logits = np.zeros((1, 2, 1009))
    logits[0, 0, 1001] = logits[0, 1, 1003] = 4
    loss = training.MaskedCrossentropy()(np.array([[1001, 1002]]), ops.convert_to_tensor(logits, FLOATX))
    total = np.log(1008 + np.exp(4))
    assert float(loss) == pytest.approx((total - 4 + total) / 2, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_recurrent_weights_are_orthogonal_in_every_dtype(dtype):
    layer = ka.AdditiveRNNAttention(7, dtype=dtype)
    layer.build((B, T, D), (B, S, M))
    kernel = numpy(layer.cell.recurrent_kernel)  # [U, 3 U]
    assert_within(kernel @ kernel.T, np.eye(7), 7 * EPSILON[dtype])
    again = ka.AdditiveRNNAttention.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    kind = layer.get_config()["cell"]["config"]["recurrent_initializer"]["class_name"]
    assert kind == ("Orthogonal" if dtype == "float32" else "WideOrthogonal")


def test_wide_orthogonal_is_the_rounded_one_of_keras():
    wide = numpy(keras.initializers.Orthogonal(seed=3)((5, 7), "float32"))
    narrow = numpy(WideOrthogonal(seed=3)((5, 7), "bfloat16"))
    np.testing.assert_array_equal(narrow, numpy(ops.cast(wide.astype("float32"), "bfloat16")))
