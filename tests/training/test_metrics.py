"""The metrics: by hand, against plain Python, in every mode of running, weighted, and inside a compiled model."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn.training import EditDistance, MaskedCrossentropy, Perplexity, SequenceAccuracy, TokenAccuracy

KINDS = [TokenAccuracy, SequenceAccuracy, EditDistance, Perplexity]
LABELS = np.array([[5, 6, 7, 2, 0], [5, 2, 0, 0, 0], [8, 9, 2, 0, 0], [0, 0, 0, 0, 0]])
READ = np.array([[5, 7, 2, 9, 9], [5, 2, 4, 4, 4], [8, 9, 9, 2, 4], [4, 4, 4, 4, 4]])  # what the logits below say
V = 11


def logits_of(ids):
    """Logits whose greatest are those of the ids."""
    return 3 * np.eye(V, dtype="float32")[ids]


def result(metric, *arguments, **options):
    metric.update_state(*arguments, **options)
    return float(metric.result())


@pytest.mark.parametrize("predictions", [READ, logits_of(READ)], ids=["ids", "logits"])
def test_token_accuracy_by_hand(predictions):
    assert result(TokenAccuracy(), LABELS, predictions) == pytest.approx((1 + 2 + 2) / (4 + 2 + 3))
    weights = np.array([1.0, 3.0, 0.0, 5.0])
    assert result(TokenAccuracy(), LABELS, predictions, sample_weight=weights) == pytest.approx((1 + 3 * 2) / (4 + 6))
    weights = np.tile([0.0, 1.0, 2.0, 0.0, 7.0], (4, 1))
    assert result(TokenAccuracy(), LABELS, predictions, sample_weight=weights) == pytest.approx(
        (0 + 1 + 1) / (3 + 1 + 3)
    )


def test_sequences_by_hand():
    # Of ids: 5 7 for 5 6 7 (one edit), 5 for 5, 8 9 9 for 8 9 (one edit); the last row is padding.
    assert result(SequenceAccuracy(), LABELS, READ) == pytest.approx(1 / 3)
    assert result(EditDistance(), LABELS, READ) == pytest.approx((1 + 0 + 1) / (3 + 1 + 2))
    weights = np.array([1.0, 3.0, 0.5, 5.0])
    assert result(SequenceAccuracy(), LABELS, READ, sample_weight=weights) == pytest.approx(3 / 4.5)
    assert result(EditDistance(), LABELS, READ, sample_weight=weights[:, None]) == pytest.approx(1.5 / (3 + 3 + 1))


def test_logits_are_read_where_there_is_a_label():
    # 5 7 (2), 5 (2) and 8 9 9: what follows in the places of padding is not read.
    assert result(SequenceAccuracy(), LABELS, logits_of(READ)) == pytest.approx(1 / 3)
    assert result(EditDistance(), LABELS, logits_of(READ)) == pytest.approx((1 + 0 + 1) / 6)
    assert result(EditDistance(), LABELS, logits_of(np.full((4, 5), 9))) == pytest.approx((4 + 2 + 2) / 6)


def test_predictions_of_other_lengths():
    short, long = READ[:, :1], np.concatenate([LABELS, READ], axis=1)
    assert result(EditDistance(), LABELS, short) == pytest.approx((2 + 0 + 1) / 6)
    assert result(SequenceAccuracy(), LABELS, short) == pytest.approx(1 / 3)
    assert result(EditDistance(), LABELS, long) == 0
    assert result(SequenceAccuracy(), LABELS, long) == 1
    assert result(EditDistance(), LABELS, READ[:, :0]) == 1
    assert result(EditDistance(), np.array([[2, 0]]), np.array([[5, 6]])) == 0  # no reference token
    assert result(SequenceAccuracy(), np.array([[2, 0]]), np.array([[5, 6]])) == 0


def test_perplexity_is_that_of_all_tokens(rng):
    logits = rng.normal(size=(4, 5, V)).astype("float32")
    p = np.exp(logits.astype("float64")) / np.exp(logits.astype("float64")).sum(-1, keepdims=True)
    surprises = -np.log(np.take_along_axis(p, LABELS[..., None], -1)[..., 0])
    for block in (None, 4):
        metric = Perplexity(vocabulary_block=block)
        metric.update_state(LABELS[:1], logits[:1])
        metric.update_state(LABELS[1:], logits[1:])
        wanted = np.exp(surprises[LABELS > 0].mean())
        assert float(metric.result()) == pytest.approx(wanted, rel=1e-6)
    logits[LABELS == 0] = np.nan
    weights = rng.uniform(size=(4, 5)) * (LABELS > 0)
    wanted = np.exp((surprises * weights).sum() / weights.sum())
    assert result(Perplexity(), LABELS, logits, sample_weight=weights) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_add_up_and_are_forgotten(kind):
    logits = logits_of(READ)
    metric, whole = kind(), result(kind(), LABELS, logits)
    assert float(metric.result()) == (1 if kind is Perplexity else 0)
    for rows in (slice(0, 1), slice(1, 4)):
        metric.update_state(LABELS[rows], logits[rows])
    assert float(metric.result()) == pytest.approx(whole)
    metric.reset_state()
    assert result(metric, LABELS[3:], logits[3:]) == (1 if kind is Perplexity else 0)  # padding alone
    assert result(metric, LABELS[:3], logits[:3]) == pytest.approx(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind):
    metric = kind(name="of_mine", dtype="float64")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(again) is kind and again.get_config() == metric.get_config()
    assert again.name == "of_mine" and again.dtype == "float64"
    assert Perplexity.from_config(Perplexity(vocabulary_block=4).get_config()).vocabulary_block == 4


def new_model(metrics, weighted_metrics=(), **options):
    """A model whose outputs are its inputs."""
    inputs = keras.Input((None, V))
    model = keras.Model(inputs, keras.layers.Dense(V, use_bias=False, kernel_initializer="identity")(inputs))
    metrics = {"metrics": metrics, "weighted_metrics": list(weighted_metrics)}
    model.compile(keras.optimizers.SGD(0.0), MaskedCrossentropy(), **metrics, **options)
    return model


@pytest.mark.trains
@pytest.mark.parametrize("jit_compile", [False, True] if keras.config.backend() == "tensorflow" else ["auto"])
def test_while_training(jit_compile):
    model = new_model([kind() for kind in KINDS], jit_compile=jit_compile)
    history = model.fit(logits_of(READ), LABELS, batch_size=2, verbose=0).history
    for kind in KINDS:
        assert history[kind().name] == [pytest.approx(result(kind(), LABELS, logits_of(READ)), rel=1e-6)]


@pytest.mark.trains
def test_weighted_in_evaluation_and_reloaded(tmp_path):
    model = new_model([Perplexity(4)], [EditDistance(), TokenAccuracy(name="mine")], jit_compile=False)
    weights = np.array([1.0, 3.0, 0.5, 5.0], "float32")[:, None]
    options = {"sample_weight": weights, "batch_size": 2, "verbose": 0, "return_dict": True}
    found = model.evaluate(logits_of(READ), LABELS, **options)
    assert found["perplexity"] == pytest.approx(result(Perplexity(), LABELS, logits_of(READ)), rel=1e-6)
    for name, metric in (("edit_distance", EditDistance()), ("mine", TokenAccuracy())):
        wanted = result(metric, LABELS, logits_of(READ), sample_weight=weights)
        assert found[name] == pytest.approx(wanted, rel=1e-6)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert reloaded.evaluate(logits_of(READ), LABELS, **options) == pytest.approx(found, rel=1e-6)


def test_many_tokens_are_counted_exactly_in_float64():
    metric = TokenAccuracy(dtype="float64")
    metric.count.assign(2.0**24)
    metric.update_state(np.array([[5]]), np.array([[5]]))
    assert float(ops.convert_to_numpy(metric.count)) == 2**24 + 1


@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments_are_named(kind):
    metric, logits = kind(), logits_of(READ)
    with pytest.raises(ValueError, match="`y_true` must hold integer ids. Received: y_true.dtype=float64"):
        metric.update_state(LABELS + 0.5, logits)
    with pytest.raises(ValueError, match=r"`y_pred` must have shape \[B, T, V\] with T=5 as in `y_true`"):
        metric.update_state(LABELS, logits[:, :3])
    with pytest.raises(ValueError, match=r"`y_pred` must have \d axes"):
        metric.update_state(LABELS, logits[:, 0, 0])
    with pytest.raises(ValueError, match="`sample_weight` must"):
        metric.update_state(LABELS, logits, sample_weight=np.ones((4, 2)))
    if kind is not Perplexity:
        with pytest.raises(ValueError, match="`y_pred` must hold integer ids. Received: y_pred.dtype="):
            metric.update_state(LABELS, READ.astype("float32"))
    with pytest.raises(ValueError, match="`vocabulary_block` must be an integer of at least 1"):
        Perplexity(vocabulary_block=-1)


def test_tokens_are_as_many_as_labels():
    with pytest.raises(ValueError, match=r"`y_pred` must have shape \[B, T\] with T=5 as in `y_true`"):
        TokenAccuracy().update_state(LABELS, READ[:, :3])


def test_logits_are_no_integers():
    predictions = np.zeros((*LABELS.shape, V), "int32")  # such as the texts of `generate(...).tokens`
    for kind in (TokenAccuracy, SequenceAccuracy, EditDistance):
        with pytest.raises(ValueError, match=r"`y_pred` must be ids \[B, L\], or logits .* of a floating dtype"):
            kind().update_state(LABELS, predictions)
