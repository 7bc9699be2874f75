"""Names of a recipe's inputs, wherever they come from; ragged rows; rows without ids; positions that end."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import decoding, models

BACKEND = keras.config.backend()
IDS, LABELS = np.array([[5, 6, 7, 2], [4, 2, 0, 0]]), np.array([[6, 7, 2, 0], [2, 0, 0, 0]])
MAKERS = {
    "transformer": lambda: models.Transformer(11, 11, num_layers=1, size=8, num_heads=2, hidden_size=7),
    "rnn": lambda: models.RNNSeq2Seq(11, 11, size=5),
    "causal": lambda: models.CausalTransformer(11, num_layers=1, size=8, num_heads=2, hidden_size=7),
}
each_recipe = pytest.mark.parametrize("name", MAKERS)


@pytest.fixture(scope="module")
def recipes():
    made = {name: make() for name, make in MAKERS.items()}
    for model in made.values():
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
        model.compile("sgd", loss, run_eagerly=BACKEND == "torch")
    return made


def ways(model, inputs):
    """Every way in for inputs by name."""
    inputs = {name: np.array(ids, "int32") for name, ids in inputs.items()}
    yield "call", lambda: model(inputs)
    yield "call of tensors", lambda: model({name: ops.convert_to_tensor(ids) for name, ids in inputs.items()})
    yield "symbolic call", lambda: model({name: keras.Input((None,), dtype="int32") for name in inputs})
    yield "fit", lambda: model.fit(inputs, LABELS, verbose=0)
    yield "evaluate", lambda: model.evaluate(inputs, LABELS, verbose=0)
    yield "predict", lambda: model.predict(inputs, verbose=0)
    yield "train_on_batch", lambda: model.train_on_batch(inputs, LABELS)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        batches = tf.data.Dataset.from_tensors((inputs, LABELS))
        yield "tf.data", lambda: model.evaluate(batches, verbose=0)


@pytest.mark.trains
@each_recipe
def test_unknown_and_missing_names_are_refused_wherever_they_come_from(name, recipes):
    model = recipes[name]
    good = dict.fromkeys(model.sides, IDS)
    known = r"`inputs` must have the names \(" + ".*".join(f"'{side}'" for side in model.sides)
    for bad, message in (
        ({**good, "domain": IDS}, r"unknown: \['domain'\]"),
        ({**good, "segment_ids": IDS}, r"unknown: \['segment_ids'\]"),
        ({side: ids for side, ids in good.items() if side != "target"} or {"targets": IDS}, "target"),
    ):
        for _, call in ways(model, bad):
            with pytest.raises(ValueError, match=rf"(?s){known}.*{message}"):
                call()
    with pytest.raises(ValueError, match=r"missing: \['target'\]"):
        recipes["transformer"]({"source": IDS})
    with pytest.raises(ValueError, match="`target` must have rows of one length"):
        model.fit({**good, "target": [[5, 6, 7], [5, 6]]}, LABELS)
    assert np.all(np.isfinite(model.predict(good, verbose=0)))  # what was refused did no harm
    assert np.isfinite(model.fit(good, LABELS, verbose=0).history["loss"][0])


@each_recipe
def test_lists_tuples_and_single_tensors_are_read_in_order(name, recipes):
    model = recipes[name]
    inputs = {side: (IDS + number) % 11 for number, side in enumerate(model.sides)}
    wanted = ops.convert_to_numpy(model(inputs))
    for given in (list(inputs.values()), tuple(inputs.values()), dict(reversed(inputs.items()))):
        np.testing.assert_array_equal(ops.convert_to_numpy(model(given)), wanted)
    if name == "causal":
        for given in (IDS, IDS.tolist(), ops.convert_to_tensor(IDS)):
            np.testing.assert_array_equal(ops.convert_to_numpy(model(given)), wanted)
    for given in ([IDS] * 3, [IDS] if name != "causal" else [IDS] * 2):
        with pytest.raises(ValueError, match=r"`inputs` must be a dictionary with the names .* Received: \d of them"):
            model(given)


@each_recipe
def test_ragged_rows_are_refused_by_name(name, recipes):
    model, ragged = recipes[name], [[5, 6, 7], [5, 6]]
    rows = [np.array(row) for row in ragged]
    pad = r"pad_sequences\({}, padding='post'\)"
    for source in (ragged, rows, np.array(rows, dtype=object)):
        for generate in (model.generate, lambda *given, **named: decoding.generate(model, *given, **named)):
            with pytest.raises(ValueError, match="`source` must have rows of one length: .*" + pad.format("source")):
                generate(source, max_length=3)
    with pytest.raises(ValueError, match="`target` must have rows of one length: .*" + pad.format("target")):
        model({**dict.fromkeys(model.sides, IDS), "target": ragged})
    with pytest.raises(ValueError, match="`prefix_ids` must have rows of one length"):
        model.generate(IDS, max_length=3, prefix_ids=ragged)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        ragged = tf.ragged.constant(ragged)
        with pytest.raises(
            ValueError, match="`source` must have rows of one length: .*Received: source of type Ragged"
        ):
            model.generate(ragged, max_length=3)
        with pytest.raises(ValueError, match="`target` must have rows of one length"):
            model({**dict.fromkeys(model.sides, IDS), "target": ragged})


@each_recipe
def test_a_row_without_ids_is_one_of_padding(name, recipes):
    """Prompts and sources `[B, 0]`: of a decoder-only model, what follows the start id."""
    model = recipes[name]
    wanted = model.generate(np.array([[1]] * 2) if name == "causal" else np.zeros((2, 1), "int32"), max_length=3)
    empty = np.zeros((2, 0), "int32")
    for found in (model.generate(empty, max_length=3), decoding.generate(model, empty, max_length=3)):
        np.testing.assert_array_equal(*(ops.convert_to_numpy(each.tokens) for each in (found, wanted)))


def test_no_message_prints_a_tensor(recipes):
    wide = np.zeros((30, 40))
    for named in ({"strategy": wide}, {"max_length": wide}, {"end_id": wide}, {"cache": wide}, {"processors": [wide]}):
        with pytest.raises(ValueError, match="must") as caught:
            recipes["causal"].generate(IDS, **named)
        assert "0." not in str(caught.value) and len(str(caught.value)) < 200


LEARNED = {
    "causal": lambda: models.CausalTransformer(11, 1, 8, 2, 7, position=ka.Learned(8)),
    "transformer": lambda: models.Transformer(11, 11, 1, 8, 2, 7, position=ka.Learned(8)),
}


@pytest.fixture(scope="module")
def learned():
    return {name: make() for name, make in LEARNED.items()}


@pytest.mark.parametrize("jit_compile", [False, True, None], ids=["compiled", "xla", "as-it-stands"])
def test_generation_stops_at_the_door_where_learned_positions_end(jit_compile, learned):
    """The last token that is read stands at position P - 1 + max_length - 1 of a decoder-only model's 8."""

    def generate(name, source, **named):
        named = {"end_id": 10, **named}
        if jit_compile is None:
            return decoding.generate(learned[name], np.array(source), **named)
        return learned[name].generate(np.array(source), jit_compile=jit_compile, **named)

    prompts = [[5, 6, 7], [5, 0, 0]]
    assert generate("causal", prompts, max_length=6).tokens.shape == (2, 1, 6)
    for named, received in (({"max_length": 7}, 7), ({}, 256)):
        with pytest.raises(
            ValueError,
            match=rf"`max_length` must be at most 6 and .* has 8 positions, .* longest prompt has 3 ids. "
            rf"Received: max_length={received}, source.shape=\(2, 3\)",
        ):
            generate("causal", prompts, **named)
    assert generate("transformer", prompts, max_length=8).tokens.shape == (2, 1, 8)
    for named, received in (({"max_length": 9}, 9), ({}, 256)):
        with pytest.raises(
            ValueError, match=f"`max_length` must be at most the 8 positions .* Received: max_length={received}"
        ):
            generate("transformer", prompts, **named)
    with pytest.raises(ValueError, match=r"`source` must have at most the 8 positions .*\(2, 9\)"):
        generate("transformer", np.full((2, 9), 5), max_length=3)
    with pytest.raises(ValueError, match=r"`source` at most 8 ids wide.*source.shape=\(2, 9\)"):
        generate("causal", np.pad(prompts, [(0, 0), (0, 6)]), max_length=3)


@pytest.mark.parametrize("name", LEARNED)
def test_steps_stop_where_learned_positions_end(name, learned):
    model = learned[name]
    state = model.init_state(np.array([[5], [6]]), max_length=20)
    model.step(np.array([5, 6]), state, 7)
    for index in (8, -1, np.array([3, 8])):
        with pytest.raises(ValueError, match="`index` must be from 0 to 7, the positions of a table of max_length=8"):
            model.step(np.array([5, 6]), state, index)


class Own:
    """A user's own model of learned positions, which counts as it likes."""

    def __init__(self):
        self.position, self.table = ka.Learned(4), np.eye(7, dtype="float32")

    def init_state(self, source, max_length):
        return {"unused": ops.zeros((ops.shape(source)[0], 1))}

    def step(self, tokens, state, index):
        x = ops.take(ops.convert_to_tensor(self.table), tokens, axis=0)[:, None]
        positions = ops.broadcast_to(ops.reshape(index, (1, 1)), (ops.shape(tokens)[0], 1))
        return self.position(x, positions=positions)[:, 0], state


@pytest.mark.skipif(BACKEND == "jax", reason="the loop is traced: its positions cannot be looked at")
def test_a_users_own_model_is_checked_where_its_positions_can_be_seen():
    assert decoding.generate(Own(), np.zeros((2, 1)), max_length=4, end_id=6).tokens.shape == (2, 1, 4)
    with pytest.raises(ValueError, match="`positions` must be from 0 to 3, the positions of a table of max_length=4"):
        decoding.generate(Own(), np.zeros((2, 1)), max_length=5, end_id=6, processors=[decoding.MinLength(5)])
