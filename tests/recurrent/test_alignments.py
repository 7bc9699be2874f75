"""Every score and alignment of recurrent decoders: the papers' equations, masks, gradients, bad input."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn.recurrent import Alignment
from tests.recurrent import oracle
from tests.recurrent.derivatives import derivative, in_float64

B, T, S, D, M, UNITS = 3, 5, 7, 4, 6, 6
SCORES = {
    "additive": lambda **k: ka.AdditiveScore(3, **k),
    "normalized": lambda **k: ka.AdditiveScore(normalize=True, **k),
    "dot": lambda **k: ka.DotScore(**k),
    "scaled-dot": lambda **k: ka.DotScore(use_scale=True, **k),
    "general": lambda **k: ka.MultiplicativeScore(**k),
    "scaled-general": lambda **k: ka.MultiplicativeScore(use_scale=True, **k),
    "location": lambda **k: ka.LocationSensitiveScore(4, 3, **k),
    "cumulative": lambda **k: ka.LocationSensitiveScore(4, 5, cumulative=True, units=3, **k),
    "coverage": lambda **k: ka.CoverageScore(**k),
}
ALIGNMENTS = {
    "softmax": lambda **k: ka.SoftmaxAlignment(**k),
    "monotonic": lambda **k: ka.Monotonic(noise=0, offset=0.1, **k),
    "chunkwise": lambda **k: ka.MonotonicChunkwise(3, noise=0, offset=0.1, **k),
    "forward": lambda **k: ka.ForwardAlignment(**k),
    "local-m": lambda **k: ka.LocalWindow(2, **k),
    "local-p": lambda **k: ka.PredictedWindow(2, **k),
}
DECODERS = {
    "before": lambda score, alignment, **k: ka.RNNAttention(cell(**k), score, alignment=alignment, **k),
    "after": lambda score, alignment, **k: ka.LuongRNNAttention(UNITS, cell(**k), score, alignment=alignment, **k),
}
PAIRS = [("softmax", name) for name in SCORES] + [(name, "scaled-general") for name in ALIGNMENTS if name != "softmax"]
PAIRS += [("monotonic", "location"), ("mixture", None)]


def cell(**k):
    return keras.layers.SimpleRNNCell(UNITS, bias_initializer="normal", **k)


def decoder(kind, alignment, score, **k):
    chosen = ka.GaussianMixture(2, **k) if alignment == "mixture" else ALIGNMENTS[alignment](**k)
    layer = DECODERS[kind](score and SCORES[score](**k), chosen, **k)
    layer.build((B, T, D), (B, S, M))
    rng = np.random.default_rng(5)  # weights that differ from their start values
    layer.set_weights([weight + 0.3 * rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer


@pytest.fixture
def inputs(rng):
    return rng.normal(size=(B, T, D)).astype("float32")


@pytest.fixture
def memory(rng):
    return 2 * rng.normal(size=(B, S, M)).astype("float32")


@pytest.fixture
def memory_mask():
    return (np.arange(S) >= [[0], [2], [0]]) & (np.arange(S) < [[7], [6], [1]])


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize(("alignment", "score"), PAIRS)
@pytest.mark.parametrize("training", [False, True])
def test_the_papers_equations(kind, alignment, score, training, inputs, memory, memory_mask):
    layer = decoder(kind, alignment, score)
    outputs, weights = layer(inputs, memory, memory_mask=memory_mask, training=training, return_attention_scores=True)
    wanted_outputs, wanted_weights = oracle.decode(layer, inputs, memory, memory_mask, training)
    np.testing.assert_allclose(weights, wanted_weights, atol=2e-5)
    np.testing.assert_allclose(outputs, wanted_outputs, atol=2e-5)
    if training:
        return
    state = layer.init_state(memory, memory_mask)
    for index in range(T):
        (output, weight), state = layer.step(inputs[:, index], state, index, return_attention_scores=True)
        np.testing.assert_allclose(output, wanted_outputs[:, index], atol=2e-5)
        np.testing.assert_allclose(weight, wanted_weights[:, index], atol=2e-5)


@pytest.mark.parametrize("alignment", ["monotonic", "chunkwise"])
def test_hard_decisions_are_the_limit_of_the_expectation_for_sharp_energies(alignment, inputs, memory, memory_mask):
    layer = decoder("before", alignment, "scaled-dot")
    layer.score.scale.assign(1e4)
    first = np.random.default_rng(3).normal(size=(B, UNITS)).astype("float32")
    arguments = {"memory_mask": memory_mask, "initial_state": first, "return_attention_scores": True}
    hard, soft = (layer(inputs, memory, training=training, **arguments) for training in (False, True))
    np.testing.assert_allclose(hard[0], soft[0], atol=1e-4)
    np.testing.assert_allclose(hard[1], soft[1], atol=1e-4)
    if alignment == "monotonic":
        assert set(np.unique(ops.convert_to_numpy(hard[1]))) == {0.0, 1.0}


def test_a_decoder_that_stops_nowhere_reads_zeros(inputs, memory):
    layer = decoder("before", "monotonic", "dot")
    layer.alignment.r.assign(-1e4)
    outputs, weights = layer(inputs, memory, return_attention_scores=True)
    np.testing.assert_array_equal(weights, 0)
    np.testing.assert_array_equal(outputs[..., UNITS:], 0)


def test_monotonic_weights_never_move_back(inputs, memory):
    layer = decoder("before", "monotonic", "normalized")
    _, weights = layer(inputs, memory, return_attention_scores=True)
    weights = ops.convert_to_numpy(weights)
    positions = np.where(weights.any(-1), weights.argmax(-1), S)  # nowhere is behind the end
    assert np.all(np.diff(positions, axis=1) >= 0)
    assert len(np.unique(positions)) > 1


def test_the_start_of_the_offset_is_a_weight():
    layer = ka.RNNAttention(keras.layers.GRUCell(3), ka.AdditiveScore(), alignment=ka.Monotonic())
    layer.build((B, T, D), (B, S, M))
    assert float(layer.alignment.r.numpy() if hasattr(layer.alignment.r, "numpy") else layer.alignment.r) == -4
    assert any(weight is layer.alignment.r for weight in layer.trainable_weights)


def test_a_memory_reads_the_same_with_padding_inside(inputs, memory):
    """Alignments that move along the memory pass over padding; chunks and convolutions count it."""
    inside = np.array([1, 1, 0, 1, 1, 0, 1], bool)
    for alignment in ("softmax", "monotonic", "forward", "local-m", "local-p", "mixture"):
        layer = decoder("before", alignment, None if alignment == "mixture" else "general")
        for training in (False, True):
            padded = layer(inputs, memory, memory_mask=np.stack([inside] * B), training=training)
            np.testing.assert_allclose(padded, layer(inputs, memory[:, inside], training=training), atol=1e-5)


@pytest.mark.parametrize("name", [*SCORES, "mixture"])
def test_a_sequence_goes_on_where_extend_stopped(name, inputs, memory, memory_mask):
    alignment, score = ("mixture", None) if name == "mixture" else ("forward", name)
    for kind in DECODERS:
        layer = decoder(kind, alignment, score)
        whole = layer(inputs, memory, memory_mask=memory_mask)
        first, state = layer.extend(inputs[:, :2], layer.init_state(memory, memory_mask))
        second, _ = layer.extend(inputs[:, 2:], state)
        np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-5)


def test_noise_may_be_larger_than_one(inputs, memory):
    layer = ka.RNNAttention(cell(), ka.AdditiveScore(), alignment=ka.Monotonic(noise=2.0))
    assert np.all(np.isfinite(ops.convert_to_numpy(layer(inputs, memory, training=True))))


def test_a_mixture_of_no_width_is_finite(inputs, memory):
    layer = decoder("before", "mixture", None)
    layer.alignment.mixture_projection.bias.assign([-500.0] * 6)
    for training in (False, True):
        assert np.all(np.isfinite(ops.convert_to_numpy(layer(inputs, memory, training=training))))


@pytest.mark.parametrize("alignment", [ka.Monotonic, ka.MonotonicChunkwise])
def test_noise_acts_in_training_only(alignment, inputs, memory):
    layer = ka.RNNAttention(cell(), ka.AdditiveScore(), alignment=alignment(noise=1.0, offset=0.0))
    one, two = (ops.convert_to_numpy(layer(inputs, memory, training=True)) for _ in range(2))
    assert np.abs(one - two).max() > 1e-3
    np.testing.assert_array_equal(layer(inputs, memory), layer(inputs, memory))


def test_a_mixture_starts_with_steps_of_one_and_widths_of_ten():
    alignment = ka.GaussianMixture(num_components=3)
    alignment.build((None, UNITS), (None, None, M))
    alignment.hidden_projection.kernel.assign(0 * alignment.hidden_projection.kernel)
    state = alignment.init_state(ops.ones((1, 50, M)))
    weights, state = alignment.align(None, ops.ones((1, UNITS)), state, None, 0)
    np.testing.assert_allclose(state.means, np.ones((1, 3)), rtol=1e-6)
    densities = np.exp(-((np.arange(1, 51) - 1) ** 2) / 200) / np.sqrt(200 * np.pi)
    np.testing.assert_allclose(weights[0], densities, rtol=1e-5)


def test_forward_weights_do_not_die_of_underflow():
    alignment = ka.ForwardAlignment()
    state = alignment.init_state(ops.ones((1, 4, 2)))
    for index in range(3):  # the scores point to the end, of which the decoder is far away
        weights, state = alignment.align(np.array([[-200.0, -150.0, 0.0, 200.0]], "float32"), None, state, None, index)
        np.testing.assert_allclose(ops.sum(weights), 1, atol=1e-6)
    assert float(weights[0, 3]) > 0.99


@pytest.mark.parametrize("alignment", [*ALIGNMENTS, "mixture"])
def test_a_memory_that_is_all_padding_or_empty_reads_zeros(alignment, inputs, memory):
    layer = decoder("before", alignment, None if alignment == "mixture" else "general")
    for training in (False, True):
        outputs, weights = layer(
            inputs, memory, memory_mask=np.zeros((B, S), bool), training=training, return_attention_scores=True
        )
        np.testing.assert_array_equal(weights, 0)
        np.testing.assert_array_equal(outputs[..., UNITS:], 0)
        outputs = layer(inputs, memory[:, :0], training=training)
        np.testing.assert_array_equal(outputs[..., UNITS:], 0)


@pytest.mark.parametrize("score", SCORES)
def test_scores_of_an_empty_memory(score, inputs, memory):
    outputs = decoder("before", "softmax", score)(inputs, memory[:, :0])
    np.testing.assert_array_equal(outputs[..., UNITS:], 0)


@in_float64
@pytest.mark.trains
@pytest.mark.parametrize("alignment", [*ALIGNMENTS, "mixture"])
def test_gradients_equal_finite_differences(alignment, inputs, memory, memory_mask):
    """In float64, of the sum of squared outputs, along a random direction of all weights and the memory."""
    layer = decoder("before", alignment, None if alignment == "mixture" else "cumulative", dtype="float64")
    inputs, memory = inputs.astype("float64"), memory.astype("float64")
    gradients = derivative(layer, inputs, memory, memory_mask=memory_mask, training=True)
    rng = np.random.default_rng(1)
    directions = [rng.normal(size=np.shape(gradient)) for gradient in gradients]
    start, step = layer.get_weights(), 1e-6
    trainable = {id(weight) for weight in layer.trainable_weights}
    losses = []
    for sign in (step, -step):
        moves = iter(directions[1:])
        layer.set_weights(
            [
                value + sign * next(moves) if id(weight) in trainable else value
                for value, weight in zip(start, layer.weights, strict=True)
            ]
        )
        moved = memory + sign * directions[0]
        outputs = layer(inputs, moved, memory_mask=memory_mask, training=True)
        losses.append(float(ops.convert_to_numpy(ops.sum(ops.square(outputs)))))
    slope = (losses[0] - losses[1]) / (2 * step)
    wanted = sum(float(np.sum(gradient * move)) for gradient, move in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(slope, wanted, rtol=1e-5)
    hidden = ~np.broadcast_to(memory_mask[..., None], memory.shape)
    np.testing.assert_array_equal(gradients[0][hidden], 0)


def test_an_alignment_of_the_users_own(inputs, memory):
    class First(Alignment):
        def align(self, scores, query, state, mask, index, keys=(), training=False):
            return ops.one_hot(ops.zeros_like(index), ops.shape(scores)[1]), state

    layer = ka.RNNAttention(cell(), ka.DotScore(), alignment=First())
    outputs = layer(inputs, memory)
    np.testing.assert_allclose(outputs[..., UNITS:], np.repeat(memory[:, :1], T, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ka.RNNAttention(cell(), ka.DotScore(), alignment=ka.GaussianMixture()), "`score` must be None"),
        (lambda: ka.RNNAttention(cell()), "`score` must be a layer, as `SoftmaxAlignment` reads scores"),
        (lambda: ka.RNNAttention(cell(), ka.DotScore(), alignment="softmax"), "`alignment` must be an `Alignment`"),
        (lambda: ka.AdditiveRNNAttention(3, alignment="softmax"), "`alignment` must be an `Alignment`"),
        (lambda: ka.LuongRNNAttention(3, alignment="softmax"), "`alignment` must be an `Alignment`"),
        (lambda: ka.AdditiveRNNAttention(3, 2, alignment=ka.GaussianMixture()), "`attention_units` must be None"),
        (lambda: ka.RNNAttention(cell(), "dot"), "`score` must be a layer with a `keys"),
        (lambda: ka.MonotonicChunkwise(chunk_score=ka.CoverageScore()), "`chunk_score` must be a layer whose `call`"),
        (lambda: ka.Monotonic(noise=-1), "`noise` must be a number of at least 0"),
        (lambda: ka.Monotonic(offset=float("nan")), "`offset` must be a number"),
        (lambda: ka.MonotonicChunkwise(0), "`chunk_size` must be an integer of at least 1"),
        (lambda: ka.GaussianMixture(0), "`num_components` must be an integer of at least 1"),
        (lambda: ka.LocalWindow(0), "`size` must be an integer of at least 1"),
        (lambda: ka.PredictedWindow(2, 0), "`units` must be an integer of at least 1"),
        (lambda: ka.LocationSensitiveScore(4, 4), "`kernel_size` must be odd"),
        (lambda: ka.LocationSensitiveScore(0, 3), "`filters` must be an integer of at least 1"),
        (lambda: ka.CoverageScore(0), "`units` must be an integer of at least 1"),
        (lambda: ka.LuongRNNAttention(0), "`units` must be an integer of at least 1"),
        (lambda: ka.RNNAttention(cell(), ka.DotScore()).build((B, T, D), (B, S, M + 1)), "of the same size"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
