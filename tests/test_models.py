"""Recipes: shapes, padding, halves and steps, training, saving, bad ids."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import models

B, T, S, V_SOURCE, V_TARGET = 3, 5, 7, 23, 29
RECIPES = {
    "Transformer": lambda: models.Transformer(V_SOURCE, V_TARGET, num_layers=2, size=12, num_heads=2, hidden_size=17),
    "RNNSeq2Seq": lambda: models.RNNSeq2Seq(V_SOURCE, V_TARGET, size=11),
}
each_recipe = pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)


@pytest.fixture
def ids(rng):
    source, target = rng.integers(4, V_SOURCE, (B, S)), rng.integers(4, V_TARGET, (B, T))
    for row, (s, t) in enumerate([(7, 3), (4, 5), (2, 1)]):
        source[row, s:], target[row, t:] = 0, 0
    return {"source": source.astype("int32"), "target": target.astype("int32")}


@each_recipe
def test_ids_in_float32_logits_out(make, ids):
    model = make()
    assert isinstance(model, keras.Model)
    assert {name: tensor.shape for name, tensor in model.input.items()} == {
        "source": (None, None),
        "target": (None, None),
    }
    assert model.output.shape == (None, None, V_TARGET)
    logits = model(ids)
    assert logits.shape == (B, T, V_TARGET)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


@each_recipe
def test_padding_changes_nothing(make, ids):
    model = make()
    logits = model(ids)
    wider = {name: np.pad(array, ((0, 0), (0, 4))) for name, array in ids.items()}
    real = ids["target"] != 0
    np.testing.assert_allclose(model(wider)[:, :T][real], logits[real], atol=1e-5)
    for row in range(B):
        alone = {name: array[row : row + 1, : (array[row] != 0).sum()] for name, array in ids.items()}
        np.testing.assert_allclose(model(alone)[0], logits[row][real[row]], atol=1e-5)


@each_recipe
def test_the_target_is_read_from_the_left(make, ids):
    model = make()
    logits = model(ids)
    changed = {**ids, "target": ids["target"].copy()}
    changed["target"][1, 2:] = 7
    np.testing.assert_allclose(model(changed)[1, :2], logits[1, :2], atol=1e-6)
    assert np.abs(np.array(model(changed)[1, 2]) - np.array(logits[1, 2])).max() > 1e-4


@each_recipe
def test_rows_without_source_are_finite(make, ids):
    model = make()
    ids["source"][1] = 0
    assert np.all(np.isfinite(np.array(model(ids))))


@pytest.mark.slow
@pytest.mark.trains
@each_recipe
def test_fit_learns_and_everything_reloads(make, ids, tmp_path):
    model = make()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(0.01), loss)
    history = model.fit(ids, ids["target"], epochs=30, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    assert all(np.any(ops.convert_to_numpy(weight) != 0) for weight in model.trainable_weights)
    logits = model(ids)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (loaded(ids), logits)))
    model.quantize("int8")
    model.save(tmp_path / "int8.keras")
    loaded = keras.models.load_model(tmp_path / "int8.keras", compile=False)
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (loaded(ids), model(ids))))


@pytest.mark.tensorflow  # SavedModel is TensorFlow's
@each_recipe
def test_saved_model_with_free_sizes(make, ids, tmp_path):
    import tensorflow as tf

    model = make()
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for rows, width in ((slice(0, 3), 5), (slice(1, 2), 3)):
        part = {name: tf.constant(array[rows, :width]) for name, array in ids.items()}
        np.testing.assert_allclose(loaded.serve(part), model(part), atol=1e-5)


@each_recipe
def test_ids_out_of_range_and_wrong_ranks_are_named(make, ids):
    model = make()
    for name, size in (("source", V_SOURCE), ("target", V_TARGET)):
        for wrong in (size, -1):
            bad = {**ids, name: ids[name].copy()}
            bad[name][1, 0] = wrong
            with pytest.raises(ValueError, match=f"`{name}` must hold ids from 0 to {size - 1}. .*from|to {wrong}"):
                model(bad)
            with pytest.raises(ValueError, match=f"`{name}` must hold ids from 0 to {size - 1}"):
                model({key: ops.convert_to_tensor(array) for key, array in bad.items()})
        with pytest.raises(ValueError, match=rf"`{name}` must have 2 axes"):
            model({**ids, name: ids[name][0]})


@each_recipe
def test_ids_are_checked_however_they_come(make, ids):
    model = make()
    np.testing.assert_array_equal(model([ids["source"], ids["target"]]), model(ids))
    with pytest.raises(ValueError, match="`source` must hold ids from 0 to 22"):
        model([ids["source"] + 50, ids["target"]])
    for call in (model.encode, lambda source: model.attention_scores(source, ids["target"])):
        with pytest.raises(ValueError, match="`source` must hold ids from 0 to 22"):
            call(ids["source"] + 50)
    with pytest.raises(ValueError, match=r"`source` must have 2 axes, \[B, S\]"):
        model.encode(ids["source"][0])
    with pytest.raises(ValueError, match="`target` must hold integer ids. Received: target.dtype=float"):
        model({**ids, "target": ids["target"] + 0.5})


def test_deep_recipes_reload_with_all_their_weights(ids, tmp_path):
    """Keras shares what it serialised twice; the third clone of a block must not be given the second's parts."""
    model = models.Transformer(V_SOURCE, V_TARGET, num_layers=4, size=6, num_heads=2, hidden_size=5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    np.testing.assert_array_equal(loaded(ids), model(ids))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.Transformer(0, 5), "`source_vocabulary_size` must be an integer of at least 1"),
        (
            lambda: models.Transformer(5, 5, size=10, num_heads=3),
            "`size` must be a multiple of `num_heads`. Received: size=10, num_heads=3",
        ),
        (lambda: models.Transformer(5, 5, position="rotary"), "`position` must be a layer that adds positions"),
        (lambda: models.Transformer(5, 5, num_layers=0), "`num_layers` must be"),
        (lambda: models.RNNSeq2Seq(5, 0), "`target_vocabulary_size` must be"),
        (lambda: models.RNNSeq2Seq(5, 5, size=0), "`size` must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_papers_defaults():
    model = models.Transformer(30, 30, num_heads=2, size=8, hidden_size=8)
    assert (model.get_layer("encoder").num_layers, model.get_layer("decoder").num_layers) == (6, 6)


def test_the_transformers_halves(ids):
    model = RECIPES["Transformer"]()
    memory, memory_mask = model.encode(ids["source"])
    np.testing.assert_array_equal(memory_mask, ids["source"] != 0)
    np.testing.assert_allclose(model.decode(ids["target"], memory, memory_mask), model(ids), atol=1e-6)


def test_the_rnns_steps_equal_the_whole_call(ids):
    model = RECIPES["RNNSeq2Seq"]()
    target = np.where(ids["target"] == 0, 4, ids["target"])
    whole = model({**ids, "target": target})
    state = model.init_state(ids["source"], max_length=T)
    for index in range(T):
        logits, state = model.step(target[:, index], state, index)
        np.testing.assert_allclose(logits, whole[:, index], atol=1e-5)
    scores = model.attention_scores(ids["source"], target)
    np.testing.assert_allclose(np.array(scores).sum(-1), 1, atol=1e-5)
    assert np.all(np.array(scores)[np.broadcast_to((ids["source"] == 0)[:, None], scores.shape)] == 0)


def test_bad_steps_are_named(ids):
    model = RECIPES["RNNSeq2Seq"]()
    with pytest.raises(ValueError, match=r"`source` must have 2 axes, \[B, S\]"):
        model.init_state(ids["source"][0])
    with pytest.raises(ValueError, match="`source` must hold ids from 0 to 22"):
        model.init_state(ids["source"] + 100)
    state = model.init_state(ids["source"])
    with pytest.raises(ValueError, match=r"`tokens` must have 1 axes, \[B\]"):
        model.step(ids["target"], state)
    with pytest.raises(ValueError, match="`tokens` must hold ids from 0 to 28"):
        model.step(np.array([1, 2, 99]), state)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy, ids):
    keras.config.set_dtype_policy(policy)
    try:
        for make in RECIPES.values():
            logits = make()(ids)
            assert keras.backend.standardize_dtype(logits.dtype) == "float32"
            assert np.all(np.isfinite(np.array(logits)))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.tensorflow  # on other backends nothing is traced
def test_the_first_training_step_is_traced_once(monkeypatch):
    model = models.CausalTransformer(11, num_layers=1, size=4, num_heads=2, hidden_size=8)
    model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    traces, train_step = [], model.train_step
    monkeypatch.setattr(model, "train_step", lambda data: traces.append(data) or train_step(data))
    ids = np.ones((2, 3), "int32")
    model.train_on_batch({"target": ids}, ids)
    assert len(traces) == 1


@pytest.mark.tensorflow  # AutoGraph is TensorFlow's
def test_a_search_is_traced_without_autograph(monkeypatch):
    import tensorflow as tf

    model = models.CausalTransformer(11, num_layers=1, size=4, num_heads=2, hidden_size=8)
    status, step = [], model.step
    context = tf.__internal__.autograph.control_status_ctx
    monkeypatch.setattr(model, "step", lambda *args, **kwargs: status.append(context().status) or step(*args, **kwargs))
    model.generate(np.ones((2, 3), "int32"), max_length=2)
    assert status and all(each.name != "ENABLED" for each in status)
