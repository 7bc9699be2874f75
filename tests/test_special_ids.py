"""Special ids of the user: which are valid, and that training, generation and files follow them."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import decoding, models, training
from keras_attn.base.special_ids import SpecialIds, check_same_special_ids, special_ids_or_default
from tests.decoding.test_beam import log_softmax

V = 7
OWN = SpecialIds(padding=3, start=0, end=5, unknown=1)
AS_T5 = SpecialIds(padding=3, start=3, end=5, unknown=1)  # the start id is padding
SIZES = {"num_layers": 1, "size": 8, "num_heads": 2, "hidden_size": 11}
MAKERS = {
    "transformer": lambda ids: models.Transformer(V, V, **SIZES, special_ids=ids),
    "rnn": lambda ids: models.RNNSeq2Seq(V, V, size=8, special_ids=ids),
    "causal": lambda ids: models.CausalTransformer(V, **SIZES, special_ids=ids),
}
SOURCE = np.array([[4, 6, 2, 5], [2, 5, 3, 3]])
PROMPT = {OWN: np.array([[0, 4, 2], [0, 6, 3]]), AS_T5: np.array([[3, 4, 2], [3, 6, 3]])}


def array(tensor):
    return ops.convert_to_numpy(tensor)


def made(name, special_ids):
    """A model with large weights that gives padding and start the highest scores."""
    keras.utils.set_random_seed(7)
    model = MAKERS[name](special_ids)
    head = model.get_layer("projection")
    head.kernel.assign(4 * array(head.kernel))
    head.bias.assign([4.0 if token in (special_ids.padding, special_ids.start) else 0.0 for token in range(V)])
    return model


@pytest.fixture(scope="module")
def recipes():
    return {(name, special_ids): made(name, special_ids) for name in MAKERS for special_ids in (OWN, AS_T5)}


each_recipe = pytest.mark.parametrize("name", MAKERS)
each_ids = pytest.mark.parametrize("special_ids", [OWN, AS_T5], ids=["own", "as-t5"])


def logits_of(model, name, source, target):
    ids = {"source": source, "target": target}
    return array(model({side: ids[side] for side in model.sides}))


def test_all_ids_of_a_vocabulary():
    assert SpecialIds(padding=None, start=7, end=7, unknown=None, other_ends=(3,)).ids == (7, 7, 3)
    assert sorted(SpecialIds().ids) == [0, 1, 2, 3]


def test_defaults_and_equality():
    ids = SpecialIds()
    assert (ids.padding, ids.start, ids.end, ids.unknown) == (0, 1, 2, 3)
    assert ids == SpecialIds(0, 1, 2, 3) and hash(ids) == hash(SpecialIds()) and ids != OWN
    assert special_ids_or_default(None) == ids and special_ids_or_default(OWN) is OWN
    assert SpecialIds.from_config(OWN.get_config()) == OWN
    assert special_ids_or_default(keras.saving.serialize_keras_object(OWN)) == OWN
    with pytest.raises(AttributeError):
        ids.padding = 4


def test_start_may_be_padding_or_end_and_two_may_be_missing():
    assert SpecialIds(padding=9, start=9, end=0, unknown=1).start == 9
    assert SpecialIds(padding=1, start=2, end=2, unknown=3).end == 2
    without = SpecialIds(padding=None, start=4, end=4, unknown=None)
    assert without.filler == 0 and without.absent == -1


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"start": -1}, "`start` must be an integer of at least 0. Received: start=-1"),
        ({"end": None}, "`end` must be an integer of at least 0. Received: end=None"),
        ({"padding": 1.5}, "`padding` must be an integer of at least 0 or None. Received: padding=1.5"),
        ({"unknown": True}, "`unknown` must be an integer of at least 0 or None. Received: unknown=True"),
        (
            {"end": 0},
            r"the other special ids must differ.* Received: SpecialIds\(padding=0, start=1, end=0",
        ),
        ({"unknown": 0}, "the other special ids must differ"),
        ({"unknown": 2}, "the other special ids must differ"),
        ({"start": 3}, "the other special ids must differ"),
    ],
)
def test_bad_ids_are_named(named, message):
    with pytest.raises(ValueError, match=message):
        SpecialIds(**named)


def test_other_objects_are_named():
    with pytest.raises(ValueError, match="`special_ids` must be a SpecialIds of keras_attn or None. Received: .*0, 1"):
        models.RNNSeq2Seq(V, V, size=4, special_ids=(0, 1, 2, 3))
    with pytest.raises(ValueError, match="`model` and `source_text` must have the same.* source_text.special_ids="):
        check_same_special_ids(model=SpecialIds(), source_text=OWN)


def test_masks_by_hand():
    ids = np.array([[3, 4, 3, 3], [0, 3, 2, 3]])
    assert array(OWN.is_real(ids)).tolist() == [[False, True, False, False], [True, False, True, False]]
    assert array(OWN.is_read(ids)).tolist() == array(OWN.is_real(ids)).tolist()
    assert array(AS_T5.is_read(ids)).tolist() == [[True, True, False, False], [True, False, True, False]]
    packed = array(AS_T5.is_read(np.array([[3, 4, 3, 6, 3]]), np.array([[1, 1, 2, 2, 0]])))
    assert packed.tolist() == [[True, True, True, True, False]]
    assert array(SpecialIds(padding=None).is_read(ids)).all()


@each_recipe
@each_ids
def test_padding_is_masked_and_nothing_else(name, special_ids, recipes):
    """More padding changes nothing; the id 0, which is padding elsewhere, is read."""
    model, target = recipes[name, special_ids], PROMPT[special_ids]
    whole = logits_of(model, name, SOURCE, target)
    alone = logits_of(model, name, SOURCE[1:, :2], target[1:, :2])
    np.testing.assert_allclose(whole[1, :2], alone[0], atol=1e-5)
    assert np.all(np.ptp(whole, axis=-1) > 0.1)
    other = np.where(SOURCE == 4, 0, SOURCE), np.where(target == 4, 0, target)
    assert np.abs(logits_of(model, name, *other)[0, -1] - whole[0, -1]).max() > 1e-3


@each_recipe
@each_ids
def test_beams_are_brute_force(name, special_ids, recipes):
    """All texts of two tokens by one call on each; neither padding nor start is chosen, though both score highest."""
    model = recipes[name, special_ids]
    said = [token for token in range(V) if token not in (special_ids.padding, special_ids.start)]
    texts = [(5,), *((a, b) for a, b in itertools.product(said, repeat=2) if a != 5)]
    source = PROMPT[special_ids] if name == "causal" else SOURCE
    strategy = decoding.Beam(len(texts), num_return_sequences=len(texts))
    found = model.generate(source, strategy, max_length=2)
    tokens, lengths, scores = map(array, found)
    for row in range(2):
        head = list(source[row][: 3 - row]) if name == "causal" else [special_ids.start]
        target = np.array([[*head, text[0]] for text in texts])
        logits = logits_of(model, name, np.tile(source[row], (len(texts), 1)), target)[:, len(head) - 1 :]
        table = log_softmax(logits.astype("float64"))
        wanted = {text: sum(table[n, t, token] for t, token in enumerate(text)) for n, text in enumerate(texts)}
        mine = [tuple(text[:length]) for text, length in zip(tokens[row], lengths[row])]
        assert set(mine) == set(texts)
        np.testing.assert_allclose(scores[row], [wanted[text] for text in mine], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scores[row], sorted(wanted.values(), reverse=True), rtol=1e-4, atol=1e-5)
        assert np.all(tokens[row][np.arange(2) >= lengths[row][:, None]] == special_ids.padding)


def test_prefixes_and_explicit_ids(recipes):
    """Padding in a prefix forces nothing, the id 0 does; explicit ids take precedence over those of the model."""
    model = recipes["transformer", OWN]
    tokens = array(model.generate(SOURCE, max_length=4, prefix_ids=[[0, 3, 6], [3, 3, 3]]).tokens)[:, 0]
    assert tokens[0, 0] == 0 and tokens[0, 2] in (6, 3)
    free = array(model.generate(SOURCE, max_length=4).tokens)[:, 0]
    np.testing.assert_array_equal(tokens[1], free[1])
    started = array(decoding.generate(model, SOURCE, max_length=4, start_id=2, end_id=4).tokens)
    assert not np.isin(started, 2).any() and np.isin(started, 0).any()


def test_prefixes_without_a_padding_id():
    """Every id of a prefix is forced, 0 too, and zeros follow the end."""

    class Flat:
        special_ids = SpecialIds(padding=None, start=1, end=5, unknown=None)

        def init_state(self, source, max_length):
            return ()

        def step(self, tokens, state, index):
            return ops.one_hot(5 * ops.ones_like(tokens), V), state

    found = decoding.generate(Flat(), np.zeros((1, 1), "int32"), max_length=5, prefix_ids=[0, 4])
    assert array(found.tokens).tolist() == [[[0, 4, 5, 0, 0]]] and array(found.lengths).tolist() == [[3]]
    with pytest.raises(ValueError, match="`prefix_ids` must be less than .* and not negative"):
        decoding.generate(Flat(), np.zeros((1, 1), "int32"), max_length=5, prefix_ids=[-1])


def test_a_model_without_padding_masks_nothing():
    model = MAKERS["transformer"](SpecialIds(padding=None, start=1, end=2, unknown=None))
    source, target = np.array([[4, 0, 0]]), np.array([[1, 0, 6]])
    whole = array(model({"source": source, "target": target}))
    assert np.abs(whole - array(model({"source": source[:, :1], "target": target}))).max() > 1e-4


def test_attention_scores_of_written_tokens(recipes):
    found, scores = recipes["transformer", AS_T5].generate(SOURCE, max_length=4, return_attention_scores=True)
    lengths = array(found.lengths)[:, 0]
    sums = array(scores)[:, 0].sum(axis=-1)  # [B, N, H, L]
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(sums[row, ..., :length], 1.0, rtol=1e-5)
        assert not sums[row, ..., length:].any()


@each_recipe
def test_models_come_back_with_their_ids(name, recipes, tmp_path):
    model = recipes[name, OWN]
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    assert again.special_ids == OWN
    source = PROMPT[OWN] if name == "causal" else SOURCE
    np.testing.assert_array_equal(
        array(again.generate(source, max_length=5).tokens), array(model.generate(source, max_length=5).tokens)
    )


def test_a_config_of_an_older_version_has_the_defaults():
    config = models.RNNSeq2Seq(V, V, size=4).get_config()
    del config["special_ids"]
    assert models.rnn_seq2seq.RNNSeq2SeqModel.from_config(config).special_ids == SpecialIds()


@pytest.mark.slow
@pytest.mark.tensorflow  # int8 files are tested on TensorFlow
def test_models_of_integers_come_back_with_their_ids(tmp_path):
    model = MAKERS["transformer"](OWN)
    model.quantize("int8", filters=None)
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").special_ids == OWN


def test_losses_and_metrics_count_real_tokens_only():
    """Padding 3, end 5, and a 0 that is a token: 4 0 against 4 6, and 2 read right."""
    labels = np.array([[4, 0, 5, 3], [2, 5, 3, 3]])
    read = np.array([[4, 6, 5, 3], [2, 5, 0, 0]])
    named = {"special_ids": OWN}
    for metric, wanted in (
        (training.TokenAccuracy(**named), 4 / 5),
        (training.SequenceAccuracy(**named), 1 / 2),
        (training.EditDistance(**named), 1 / 3),
    ):
        metric.update_state(labels, read)
        np.testing.assert_allclose(float(metric.result()), wanted, rtol=1e-6)
        assert metric.__class__.from_config(metric.get_config()).special_ids == OWN
    logits = np.random.default_rng(0).normal(size=(2, 4, V))
    likeliest = np.argmax(logits, axis=-1)
    real = labels != 3
    losses = -np.take_along_axis(log_softmax(logits), labels[..., None], axis=-1)[..., 0]
    loss = training.MaskedCrossentropy(**named)
    np.testing.assert_allclose(float(loss(labels, logits.astype("float32"))), losses[real].mean(), rtol=1e-5)
    assert loss.from_config(loss.get_config()).special_ids == OWN
    perplexity = training.Perplexity(**named)
    perplexity.update_state(labels, logits.astype("float32"))
    np.testing.assert_allclose(float(perplexity.result()), np.exp(losses[real].mean()), rtol=1e-5)
    packed = training.SequenceAccuracy(**named)
    packed.update_state(np.array([[4, 0, 5, 2, 5, 3]]), np.eye(V, dtype="float32")[[[4, 0, 5, 6, 5, 0]]])
    assert float(packed.result()) == 0.5
    right = training.TokenAccuracy(**named)
    right.update_state(labels, logits.astype("float32"))
    np.testing.assert_allclose(float(right.result()), (likeliest == labels)[real].mean(), rtol=1e-6)


def test_metrics_without_a_padding_id_count_zeros():
    without = SpecialIds(padding=None, start=1, end=5, unknown=None)
    metric = training.EditDistance(special_ids=without)
    metric.update_state(np.array([[4, 0, 5]]), np.array([[4, 6, 5]]))
    assert float(metric.result()) == 0.5


def test_word_dropout_leaves_special_ids():
    ids = np.array([[0, 4, 6, 5, 3, 3]] * 20)
    dropped = array(training.WordDropout(0.7, seed=1, special_ids=OWN)(ids, training=True))
    assert np.all(np.isin(dropped, [1]) | (dropped == ids)) and (dropped == 1).any()
    np.testing.assert_array_equal(dropped[:, [0, 3, 4, 5]], ids[:, [0, 3, 4, 5]])
    layer = training.WordDropout(0.2, special_ids=OWN)
    assert training.WordDropout.from_config(layer.get_config()).special_ids == OWN
    with pytest.raises(ValueError, match="`special_ids` must have an unknown id"):
        training.WordDropout(0.2, special_ids=SpecialIds(unknown=None))


@pytest.mark.trains
def test_a_training_step():
    model = MAKERS["transformer"](OWN)
    model.compile(
        "adam", training.MaskedCrossentropy(special_ids=OWN), metrics=[training.TokenAccuracy(special_ids=OWN)]
    )
    inputs = {"source": SOURCE, "target": np.array([[0, 4, 2], [0, 6, 3]])}
    labels = np.array([[4, 2, 5], [6, 5, 3]])
    before, after = model.train_on_batch(inputs, labels)[0], model.train_on_batch(inputs, labels)[0]
    assert np.isfinite(before) and after != before
