"""The recurrent decoder: the paper's equations, every Keras cell, masks, states, steps."""

import keras
import numpy as np
import pytest
from keras import ops, tree

import keras_attn as ka
from keras_attn.recurrent.cell_steps import CellSteps, GRUSteps, LSTMSteps, steps_of
from tests import oracle

B, T, S, D, M, UNITS, U = 3, 5, 7, 11, 13, 6, 4
CELLS = {
    "gru": lambda: keras.layers.GRUCell(UNITS),
    "lstm": lambda: keras.layers.LSTMCell(UNITS),
    "gru, reset before": lambda: keras.layers.GRUCell(UNITS, reset_after=False, recurrent_activation="hard_sigmoid"),
    "gru, no bias": lambda: keras.layers.GRUCell(UNITS, activation="relu", use_bias=False),
    "lstm, no bias": lambda: keras.layers.LSTMCell(UNITS, activation="relu", use_bias=False),
    "simple": lambda: keras.layers.SimpleRNNCell(UNITS),
    "stacked": lambda: keras.layers.StackedRNNCells([keras.layers.LSTMCell(5), keras.layers.GRUCell(UNITS)]),
    "stack of one": lambda: keras.layers.StackedRNNCells([keras.layers.GRUCell(UNITS)]),
}
each_cell = pytest.mark.parametrize("make_cell", CELLS.values(), ids=CELLS)


@pytest.fixture
def inputs(rng):
    return rng.normal(size=(B, T, D)).astype("float32")


@pytest.fixture
def memory(rng):
    return rng.normal(size=(B, S, M)).astype("float32")


@pytest.fixture
def memory_mask():
    return np.arange(S) < np.array([[7], [3], [1]])


def test_the_papers_equations(inputs, memory, memory_mask):
    layer = ka.AdditiveRNNAttention(UNITS, U)
    outputs, scores = layer(inputs, memory, memory_mask=memory_mask, return_attention_scores=True)
    arrays = {
        "W": layer.score.query_projection.kernel,
        "V": layer.score.memory_projection.kernel,
        "v": layer.score.v,
        "kernel": layer.cell.kernel,
        "recurrent": layer.cell.recurrent_kernel,
        "bias": layer.cell.bias,
    }
    weights = {name: ops.convert_to_numpy(array).astype("float64") for name, array in arrays.items()}
    wanted_outputs, wanted_scores = oracle.additive(inputs, memory, weights, memory_mask)
    np.testing.assert_allclose(outputs, wanted_outputs, atol=1e-5)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)


@each_cell
def test_steps_equal_the_whole_call(make_cell, inputs, memory, memory_mask):
    layer = ka.RNNAttention(make_cell(), ka.AdditiveScore(U))
    first = tree.map_structure(lambda t: t + 0.3, make_cell().get_initial_state(batch_size=B))
    whole = layer(inputs, memory, memory_mask=memory_mask, initial_state=tree.flatten(first))
    state = layer.init_state(memory, memory_mask, initial_state=tree.flatten(first), max_length=T)
    assert all(ops.is_tensor(tensor) for tensor in tree.flatten(state))
    for index in range(T):
        output, state = layer.step(inputs[:, index], state, index)
        np.testing.assert_allclose(output, whole[:, index], atol=1e-5)


@each_cell
def test_outputs_follow_the_cell(make_cell, inputs, memory):
    """With one memory vector the context is that vector, and the layer is Keras' own RNN over `[x ; c]`."""
    if keras.config.backend() == "jax" and make_cell is CELLS["stack of one"]:
        pytest.skip("Keras' own RNN, the oracle here, fails on a stack of one cell under JAX")
    layer = ka.RNNAttention(make_cell(), ka.MultiplicativeScore())
    outputs = layer(inputs, memory[:, :1])
    rnn = keras.layers.RNN(layer.cell, return_sequences=True)
    joined = np.concatenate([inputs, np.repeat(memory[:, :1], T, axis=1)], axis=-1)
    np.testing.assert_allclose(outputs[..., :UNITS], rnn(joined), atol=1e-5)
    np.testing.assert_allclose(outputs[..., UNITS:], joined[..., D:], atol=1e-6)


def test_products_over_the_inputs_leave_the_loop_of_cells_whose_weights_are_known():
    class Other(keras.layers.GRUCell):
        pass

    makers = {
        GRUSteps: keras.layers.GRUCell,
        LSTMSteps: keras.layers.LSTMCell,
        CellSteps: Other,
    }
    for kind, make in makers.items():
        cell = make(UNITS)
        cell.build((None, D + M))
        assert type(steps_of(cell, M)) is kind
        dropped = make(UNITS, dropout=0.1)
        dropped.build((None, D + M))
        assert type(steps_of(dropped, M)) is CellSteps  # Keras' own dropout acts on `[x ; c]`
    assert steps_of(cell, M).project(inputs := np.ones((T, B, D))) is inputs


def test_initial_state_none_means_zeros(inputs, memory):
    layer = ka.AdditiveRNNAttention(UNITS)
    np.testing.assert_array_equal(
        layer(inputs, memory), layer(inputs, memory, initial_state=np.zeros((B, UNITS), "float32"))
    )


@each_cell
def test_a_masked_step_carries_the_state_on_and_repeats_the_output(make_cell, inputs, memory):
    layer = ka.RNNAttention(make_cell(), ka.AdditiveScore(U))
    mask = np.array([[0, 1, 0, 1, 1], [1, 1, 0, 0, 1], [1, 0, 0, 0, 0]], bool)
    outputs, scores = layer(inputs, memory, inputs_mask=mask, return_attention_scores=True)
    for row in range(B):
        alone = ops.convert_to_numpy(layer(inputs[row : row + 1, mask[row]], memory[row : row + 1]))[0]
        wanted = np.concatenate([np.zeros((1, UNITS + M)), alone])[np.cumsum(mask[row])]
        np.testing.assert_allclose(outputs[row], wanted, atol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(scores)[~mask], 0)


def test_memory_that_is_all_masked_reads_zeros(inputs, memory):
    layer = ka.AdditiveRNNAttention(UNITS)
    mask = np.ones((B, S), bool)
    mask[1] = False
    outputs, scores = layer(inputs, memory, memory_mask=mask, return_attention_scores=True)
    np.testing.assert_array_equal(outputs[1, :, UNITS:], 0)
    np.testing.assert_array_equal(scores[1], 0)
    np.testing.assert_allclose(ops.sum(scores[0], axis=-1), 1, atol=1e-6)


def test_dropout_acts_on_the_joined_inputs_in_training_only(inputs, memory):
    plain, dropped = (ka.AdditiveRNNAttention(UNITS, dropout=rate) for rate in (0.0, 0.5))
    plain(inputs, memory), dropped(inputs, memory)
    dropped.set_weights(plain.get_weights() + dropped.get_weights()[len(plain.get_weights()) :])
    np.testing.assert_allclose(dropped(inputs, memory), plain(inputs, memory), atol=1e-6)
    trained = [ops.convert_to_numpy(dropped(inputs, memory, training=True)) for _ in range(2)]
    assert np.abs(trained[0] - trained[1]).max() > 1e-2


@pytest.mark.parametrize("kind", [keras.layers.GRUCell, keras.layers.LSTMCell, keras.layers.SimpleRNNCell])
def test_the_cells_own_dropout_is_one_mask_per_call(kind, inputs, memory):
    layer = ka.RNNAttention(kind(UNITS, dropout=0.5, recurrent_dropout=0.5), ka.AdditiveScore(U))
    one, two = (ops.convert_to_numpy(layer(inputs, memory, training=True)) for _ in range(2))
    assert np.abs(one - two).max() > 1e-3
    np.testing.assert_array_equal(layer(inputs, memory), layer(inputs, memory, training=False))
    assert np.all(np.isfinite(one))


def test_a_user_written_cell_without_get_initial_state(inputs, memory):
    class Decay(keras.layers.Layer):
        state_size = UNITS

        def build(self, shape):
            self.kernel = self.add_weight(name="kernel", shape=(shape[-1], UNITS))

        def call(self, x, states):
            state = 0.5 * states[0] + ops.matmul(x, self.kernel)
            return state, [state]

    layer = ka.RNNAttention(Decay(), ka.AdditiveScore(U))
    outputs = layer(inputs, 0 * memory)
    joined = np.concatenate([inputs, np.zeros((B, T, M), "float32")], axis=-1)
    np.testing.assert_allclose(
        outputs[..., :UNITS], keras.layers.RNN(layer.cell, return_sequences=True)(joined), atol=1e-5
    )
    outputs = layer(inputs, memory)
    output, _ = layer.step(inputs[:, 0], layer.init_state(memory))
    np.testing.assert_allclose(output, outputs[:, 0], atol=1e-5)


def test_what_is_no_cell_or_score_is_refused():
    with pytest.raises(ValueError, match="`cell` must be an RNN cell, not a whole RNN layer: pass its cell"):
        ka.RNNAttention(keras.layers.GRU(3), ka.AdditiveScore(U))
    for cell in (keras.layers.Dense(3), "gru", None):
        with pytest.raises(ValueError, match=r"`cell` must be an RNN cell.* Received: cell="):
            ka.RNNAttention(cell, ka.AdditiveScore(U))
    with pytest.raises(ValueError, match=r"`score` must be a layer with a `keys\(memory\)`, as `Score`"):
        ka.RNNAttention(keras.layers.GRUCell(3), keras.layers.Dense(3))
    with pytest.raises(ValueError, match="`cell` must have outputs of size units=4. Received: cell with 3"):
        ka.AdditiveRNNAttention(4, cell=keras.layers.GRUCell(3))
    for units in (0, 2.5, None):
        with pytest.raises(ValueError, match="`units` must be an integer of at least 1"):
            ka.AdditiveRNNAttention(units)
    with pytest.raises(ValueError, match=r"`dropout` must be a number in \[0, 1\)"):
        ka.AdditiveRNNAttention(3, dropout=1.0)
    with pytest.raises(ValueError, match="`cell` must have the dtype policy of the layer that holds it"):
        ka.RNNAttention(keras.layers.GRUCell(3, dtype="float64"), ka.AdditiveScore(U))


def test_states_that_do_not_fit_are_refused(inputs, memory):
    layer = ka.RNNAttention(keras.layers.LSTMCell(UNITS), ka.AdditiveScore(U))
    with pytest.raises(ValueError, match="must be built before `init_state`"):
        layer.init_state(memory)
    good = np.zeros((B, UNITS), "float32")
    for state in ([good], [good, good[:, 1:]], [good, good, good]):
        with pytest.raises(ValueError, match=r"`initial_state` must hold tensors of the shapes \[\(3, 6\), \(3, 6\)\]"):
            layer(inputs, memory, initial_state=state)
    with pytest.raises(ValueError, match=r"Received: \[\(2, 6\), \(2, 6\)\]"):
        layer(inputs, memory, initial_state=[good[1:], good[1:]])
    with pytest.raises(ValueError, match=r"Received: \[3.0\]"):
        layer(inputs, memory, initial_state=3.0)
    symbolic = [keras.Input(array.shape[1:]) for array in (inputs, memory, good[:, 1:])]
    with pytest.raises(ValueError, match=r"Received: \[\(None, 5\)\]"):
        layer(*symbolic[:2], initial_state=symbolic[2])
    layer(inputs, memory)
    with pytest.raises(ValueError, match=r"`inputs` must have 2 axes, \[B, D\]"):
        layer.step(inputs, layer.init_state(memory))
    with pytest.raises(ValueError, match="`memory` must have shape .* with B=2"):
        layer.step(inputs[:2, 0], layer.init_state(memory))
    with pytest.raises(ValueError, match="`inputs` must have shape .* with D=11"):
        layer.step(inputs[:, 0, 1:], layer.init_state(memory))
    with pytest.raises(ValueError, match=r"`memory` must have a static last axis. Received: memory.shape=\(None"):
        ka.AdditiveRNNAttention(3)(keras.Input((None, 3)), keras.Input((None, None)))
