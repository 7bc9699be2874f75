"""One rule of `sample_weight` for the loss and all metrics: by hand, in every way of training, packed rows included."""

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_attn import models
from keras_attn.training import EditDistance, MaskedCrossentropy, Perplexity, SequenceAccuracy, TokenAccuracy

KINDS = [TokenAccuracy, SequenceAccuracy, EditDistance, Perplexity]
V = 11
LABELS = np.array([[5, 6, 7, 2, 0], [5, 2, 0, 0, 0], [8, 9, 2, 0, 0], [0, 0, 0, 0, 0]])
READ = np.array([[5, 7, 2, 9, 9], [5, 2, 4, 4, 4], [8, 9, 9, 2, 4], [4, 4, 4, 4, 4]])
# Texts weigh 4/4, 4/2, 0 and nothing; what stands at padding is not read.
WEIGHTS = np.array([[1, 0, 2, 1, 9], [3, 1, 9, 9, 9], [0, 0, 0, 9, 9], [9, 9, 9, 9, 9]], "float32")
PACKED = np.array([[5, 6, 2, 7, 8, 2, 0], [9, 2, 2, 5, 0, 0, 0]])  # texts: 5 6, 7 8; 9, nothing, 5 (cut)
PACKED_READ = np.array([[5, 6, 2, 7, 9, 2, 4], [9, 3, 2, 5, 4, 4, 4]])
IN_GRAPHS = keras.config.backend() != "torch"


def logits_of(ids):
    """Logits whose greatest are those of the ids, by 3."""
    return 3 * np.eye(V, dtype="float32")[ids]


def result(metric, *arguments, **options):
    metric.update_state(*arguments, **options)
    return float(metric.result())


RIGHT = np.log((np.e**3 + V - 1) / np.e**3)  # the crossentropy of a label that has the greatest logit
WRONG = RIGHT + 3
EXPECTED = {
    "token_accuracy": (1 * 1 + 3 + 1) / (1 + 2 + 1 + 3 + 1),  # 5; 5 and 2
    "sequence_accuracy": 2 / (1 + 2),
    "edit_distance": (1 * 1) / (1 * 3 + 2 * 1),
    "perplexity": np.exp(((1 + 3 + 1) * RIGHT + (2 + 1) * WRONG) / 8),
    "loss": ((1 + 3 + 1) * RIGHT + (2 + 1) * WRONG) / 9,  # over the real tokens, those that weigh 0 too
}


@pytest.mark.parametrize("predictions", [READ, logits_of(READ)], ids=["ids", "logits"])
@pytest.mark.parametrize("kind", KINDS)
def test_by_hand(kind, predictions):
    if kind is Perplexity and predictions is READ:
        pytest.skip("perplexity wants logits")
    found = result(kind(), LABELS, predictions, sample_weight=WEIGHTS)
    assert found == pytest.approx(EXPECTED[kind().name], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_weighs_the_mean_of_its_tokens(kind):
    texts = np.array([1.0, 2.5, 0.0, 7.0], "float32")
    tokens = np.repeat(texts[:, None], 5, axis=1)
    found = {result(kind(), LABELS, logits_of(READ), sample_weight=w) for w in (texts, texts[:, None], tokens)}
    assert len(found) == 1


def new_model(**options):
    """A model whose logits are its inputs."""
    inputs = keras.Input((None, V))
    model = keras.Model(inputs, keras.layers.Dense(V, use_bias=False, kernel_initializer="identity")(inputs))
    metrics = [kind() for kind in KINDS]
    model.compile(keras.optimizers.SGD(0.0), MaskedCrossentropy(), weighted_metrics=metrics, **options)
    return model


WAYS = [{"jit_compile": False}, {"jit_compile": True}] if keras.config.backend() == "tensorflow" else [{}]
if keras.config.backend() == "tensorflow":
    WAYS.append({"run_eagerly": True})


@pytest.mark.trains
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_one_weight_serves_the_loss_and_all_metrics(options):
    model = new_model(**options)
    fitted = model.fit(logits_of(READ), LABELS, sample_weight=WEIGHTS, batch_size=4, verbose=0).history
    evaluated = model.evaluate(
        logits_of(READ), LABELS, sample_weight=WEIGHTS, batch_size=4, verbose=0, return_dict=True
    )
    for name, value in EXPECTED.items():
        assert fitted[name] == [pytest.approx(value, rel=1e-5)]
        assert evaluated[name] == pytest.approx(value, rel=1e-5)


@pytest.mark.trains
def test_weights_of_texts_through_fit():
    model, texts = new_model(), np.array([1, 3, 0, 5])
    for weights in (texts, texts[:, None]):
        options = {"sample_weight": weights, "batch_size": 4, "verbose": 0, "return_dict": True}
        found = model.evaluate(logits_of(READ), LABELS, **options)
        assert found["sequence_accuracy"] == pytest.approx(3 / 4)
        assert found["edit_distance"] == pytest.approx(1 / (3 + 3))


@pytest.mark.parametrize("kind", [*KINDS, MaskedCrossentropy])
@pytest.mark.parametrize("dtype", [bool, "int8", "int64", "float16", ml_dtypes.bfloat16, "float64"], ids=str)
def test_any_dtype(kind, dtype):
    weights = WEIGHTS.astype(dtype)
    wanted = weights.astype("float32")
    if kind is MaskedCrossentropy:
        found, wanted = (float(kind()(LABELS, logits_of(READ), sample_weight=w)) for w in (weights, wanted))
    else:
        found, wanted = (result(kind(), LABELS, logits_of(READ), sample_weight=w) for w in (weights, wanted))
    assert found == wanted > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_keras_mask_on_the_logits_is_honoured(kind):
    mask = np.arange(5) < np.array([[2], [5], [0], [5]])
    masked = keras.layers.Masking()(logits_of(READ))
    masked._keras_mask = ops.convert_to_tensor(mask)
    wanted = result(kind(), LABELS * mask, logits_of(READ), sample_weight=WEIGHTS)
    assert result(kind(), LABELS, masked, sample_weight=WEIGHTS) == pytest.approx(wanted)


def test_what_weighs_nothing_makes_no_loss_nan(run_with_gradient):
    logits = logits_of(READ)
    logits[2] = np.nan
    loss = MaskedCrossentropy()
    value, gradient = run_with_gradient(lambda x: loss(LABELS, x, sample_weight=WEIGHTS), logits)
    assert value == pytest.approx(EXPECTED["loss"], rel=1e-6)
    assert np.isfinite(gradient).all() and not gradient[2].any()


def test_packed_texts_by_hand():
    logits = logits_of(PACKED_READ)  # 7 9 for 7 8; 9 3 for 9, as no end was read; nothing, 5
    assert result(SequenceAccuracy(), PACKED, logits) == pytest.approx(3 / 5)
    assert result(EditDistance(), PACKED, logits) == pytest.approx((1 + 1) / (2 + 2 + 1 + 0 + 1))
    weights = np.array([[1, 1, 1, 3, 3, 0, 9], [4, 2, 5, 7, 9, 9, 9]])  # of texts: 1, 2; 3, 5, 7
    found = result(SequenceAccuracy(), PACKED, logits, sample_weight=weights)
    assert found == pytest.approx((1 + 5 + 7) / (1 + 2 + 3 + 5 + 7))
    found = result(EditDistance(), PACKED, logits, sample_weight=weights)
    assert found == pytest.approx((2 * 1 + 3 * 1) / (1 * 2 + 2 * 2 + 3 * 1 + 7 * 1))


tokens = st.lists(st.tuples(st.integers(3, 5), st.integers(2, 5)), max_size=3)
texts = st.lists(st.tuples(tokens, st.integers(2, 5), st.integers(0, 4)), min_size=4, max_size=4)


@settings(max_examples=20, deadline=None)
@given(texts)
def test_packed_texts_count_as_in_rows_of_their_own(texts):
    rows = [([*[t for t, _ in pairs], 2], [*[r for _, r in pairs], end], weight) for pairs, end, weight in texts]
    padded = [(*(side + [0] * (4 - len(side)) for side in row[:2]), row[2]) for row in rows]
    labels, read, weights = (np.array(side) for side in zip(*padded, strict=True))
    packed = [
        np.array([[*first[i], *second[i]] for first, second in (rows[:2], rows[2:])], dtype=object) for i in (0, 1)
    ]
    packed = [np.array([[*row, *[0] * (8 - len(row))] for row in side], "int32") for side in packed]
    row_weights = np.array(
        [[*[r[2]] * len(r[0]), *[s[2]] * (8 - len(r[0]))] for r, s in (rows[:2], rows[2:])], "float32"
    )
    for kind in (SequenceAccuracy, EditDistance):
        wanted = result(kind(), labels, logits_of(read), sample_weight=weights)
        assert result(kind(), labels, read, sample_weight=weights) == pytest.approx(wanted)
        found = result(kind(), packed[0], logits_of(packed[1]), sample_weight=row_weights)
        assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, MaskedCrossentropy])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(kind, value):
    weights = WEIGHTS.copy()
    weights[0, 1] = value
    call = kind() if kind is MaskedCrossentropy else kind().update_state
    with pytest.raises(ValueError, match=r"`sample_weight` must be finite. Received: 1 of 20 weights that are not"):
        call(LABELS, logits_of(READ), sample_weight=weights)
    weights = np.where(LABELS == 0, value, 1.0)  # padding has no weight
    call(LABELS, logits_of(READ), sample_weight=weights)


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_refuse_negative_weights(kind):
    with pytest.raises(ValueError, match=r"`sample_weight` of a metric must not be negative. Received: 4 of 20"):
        kind().update_state(LABELS, logits_of(READ), sample_weight=np.array([-1, 1, 1, -1]))


def test_the_loss_takes_negative_weights():
    found = MaskedCrossentropy()(LABELS, logits_of(READ), sample_weight=np.array([-1, 2, 0, 0]))
    assert float(found) == pytest.approx((-RIGHT - 3 * WRONG + 2 * 2 * RIGHT) / 9, rel=1e-6)


@pytest.mark.trains
@pytest.mark.skipif(not IN_GRAPHS, reason="PyTorch has no graph")
@pytest.mark.parametrize("value", [np.nan, -1.0])
def test_in_a_graph_they_are_seen_in_the_figures(value):
    weights = WEIGHTS.copy()
    weights[0, 1] = value
    options = {"sample_weight": weights, "batch_size": 4, "verbose": 0, "return_dict": True}
    found = new_model().evaluate(logits_of(READ), LABELS, **options)
    assert all(np.isnan(found[kind().name]) for kind in KINDS)
    assert np.isnan(found["loss"]) == np.isnan(value)


@pytest.mark.parametrize("kind", [*KINDS, MaskedCrossentropy])
@pytest.mark.parametrize("shape", [(4, 2), (3,), (4, 5, 1)])
def test_other_shapes_are_refused(kind, shape):
    call = kind() if kind is MaskedCrossentropy else kind().update_state
    with pytest.raises(ValueError, match=r"`sample_weight` must broadcast to \[B, T\] = \(4, 5\). Received: sample_w"):
        call(LABELS, logits_of(READ), sample_weight=np.ones(shape))


def test_metrics_do_not_count_in_bfloat16():
    floatx = keras.config.floatx()
    keras.config.set_floatx("bfloat16")
    try:
        assert {kind().dtype for kind in KINDS} == {"float32"}
    finally:
        keras.config.set_floatx(floatx)


@pytest.mark.trains
def test_class_weights_are_refused():
    model = models.CausalTransformer(13, num_layers=1, size=8, num_heads=2, hidden_size=11)
    model.compile("sgd", MaskedCrossentropy())
    ids = np.array([[1, 5, 7]])
    for call in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match=r"`class_weight` is not for sequences.* `sample_weight` \[B, T\]"):
            call({"target": ids}, ids, class_weight={5: 2.0})
    weights = np.ones(13)
    weights[5] = 2.0
    model.fit({"target": ids}, ids, sample_weight=weights[ids], verbose=0)
