"""The crossentropy: against NumPy in float64 and Keras, plain and in blocks, in training and evaluation."""

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

from keras_attn.backend import in_xla
from keras_attn.base.special_ids import SpecialIds
from keras_attn.training import MaskedCrossentropy

B, T, V = 3, 5, 11
REDUCTIONS = ["sum_over_batch_size", "mean", "sum", "none", "mean_with_sample_weight"]


@pytest.fixture
def labels(rng):
    labels = rng.integers(1, V, (B, T)).astype("int32")
    labels[0, 3:] = labels[2, 1:] = 0
    return labels


@pytest.fixture
def logits(rng):
    return rng.normal(scale=3, size=(B, T, V)).astype("float32")


def oracle(labels, logits, smoothing=0.0):
    """The losses `[B, T]` and their gradients `[B, T, V]`, token by token in float64."""
    losses, gradients = np.zeros(labels.shape), np.zeros(logits.shape)
    for place in np.argwhere(labels):
        place = tuple(place)
        z = logits[place].astype("float64")
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        wanted = np.full(len(z), smoothing / len(z))
        wanted[labels[place]] += 1 - smoothing
        losses[place], gradients[place] = -np.sum(wanted[wanted > 0] * np.log(p[wanted > 0])), p - wanted
    return losses, gradients


def test_by_hand():
    labels, logits = np.array([[1, 0], [2, 2]]), np.log([[[1, 1, 2], [7, 7, 7]], [[1, 1, 2], [1, 2, 1]]])
    # -log of 1/4, 2/4 and 1/4, over three tokens.
    np.testing.assert_allclose(MaskedCrossentropy()(labels, logits), 5 * np.log(2) / 3, rtol=1e-6)
    # Smoothed by 0.3, each adds 0.1 * (log 4 + log 4 + log 2).
    wanted = (0.7 * 5 + 0.1 * 3 * 5) * np.log(2) / 3
    np.testing.assert_allclose(MaskedCrossentropy(label_smoothing=0.3)(labels, logits), wanted, rtol=1e-6)


@pytest.mark.parametrize(("block", "smoothing"), [(None, 0.1), (1, 0.1), (4, 0.1), (V - 1, 0), (100, 0)])
def test_values_and_gradients(block, smoothing, labels, logits, run_with_gradient):
    loss = MaskedCrossentropy(smoothing, block)
    value, gradient = run_with_gradient(lambda logits: loss(labels, logits), logits)
    losses, gradients = oracle(labels, logits, smoothing)
    n = np.count_nonzero(labels)
    np.testing.assert_allclose(value, losses.sum() / n, rtol=1e-6)
    np.testing.assert_allclose(gradient, gradients / n, atol=1e-7)


@pytest.mark.parametrize("block", [None, 3])
def test_float64_stays_float64(block, labels, logits):
    losses = MaskedCrossentropy(0.1, block, reduction="none")(labels, ops.convert_to_tensor(logits, "float64"))
    np.testing.assert_allclose(losses, oracle(labels, logits, 0.1)[0], rtol=1e-13)


@pytest.mark.parametrize(("dtype", "block"), [(ml_dtypes.bfloat16, None), (ml_dtypes.bfloat16, 4), (np.float16, 4)])
def test_low_precision_is_widened(dtype, block, labels, logits, run_with_gradient):
    low = logits.astype(dtype)
    loss = MaskedCrossentropy(0.1, block)
    value, gradient = run_with_gradient(lambda logits: loss(labels, logits), low)
    losses, gradients = oracle(labels, low.astype("float32"), 0.1)
    n = np.count_nonzero(labels)
    assert value.dtype == "float32" and gradient.dtype == dtype
    np.testing.assert_allclose(value, losses.sum() / n, rtol=1e-6)
    np.testing.assert_allclose(gradient.astype("float64"), gradients / n, rtol=2.0**-7, atol=1e-7)


@pytest.mark.parametrize("block", [None, 4])
def test_in_blocks_logits_are_never_widened_as_a_whole(block, labels, logits, monkeypatch):
    widened, cast = [], ops.cast

    def watched(x, dtype):
        widened.append(np.shape(x)) if dtype == "float32" else None
        return cast(x, dtype)

    monkeypatch.setattr(ops, "cast", watched)
    MaskedCrossentropy(0.1, block)(labels, ops.convert_to_tensor(logits.astype(ml_dtypes.bfloat16)))
    assert ((B, T, V) in widened) == (block is None or in_xla())


@pytest.mark.parametrize("block", [None, 4])
def test_a_batch_of_padding_and_empty_batches(block, logits, run_with_gradient):
    loss = MaskedCrossentropy(0.1, block)
    value, gradient = run_with_gradient(lambda logits: loss(np.zeros((B, T), "int32"), logits), logits)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    assert float(loss(np.zeros((0, T), "int32"), logits[:0])) == 0


@pytest.mark.parametrize("block", [None, 4])
def test_rubbish_at_padding_is_ignored(block, labels, logits, run_with_gradient):
    losses, gradients = oracle(labels, logits, 0.1)
    logits[labels == 0] = np.nan
    logits[2, 3:] = np.inf
    loss, n = MaskedCrossentropy(0.1, block), np.count_nonzero(labels)
    value, gradient = run_with_gradient(lambda logits: loss(labels, logits), logits)
    np.testing.assert_allclose(value, losses.sum() / n, rtol=1e-6)
    np.testing.assert_allclose(gradient, gradients / n, atol=1e-7)


@pytest.mark.parametrize("block", [None, 3])
def test_forbidden_and_huge_logits(block, labels, logits, run_with_gradient):
    labels[labels < 4] = 0
    logits[..., :4] = -np.inf
    logits[..., 4:] += 1e4
    losses, gradients = oracle(labels, logits)
    loss = MaskedCrossentropy(0, block, reduction="sum")
    value, gradient = run_with_gradient(lambda logits: loss(labels, logits), logits)
    np.testing.assert_allclose(value, losses.sum(), rtol=1e-6)
    np.testing.assert_allclose(gradient, gradients, atol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weights", [None, "B", "B1", "BT"])
def test_reductions_and_weights_are_those_of_keras(reduction, weights, labels, logits, rng):
    shape = {None: None, "B": (B,), "B1": (B, 1), "BT": (B, T)}[weights]
    weight = None if shape is None else rng.uniform(0.5, 2, shape).astype("float32")
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0, reduction=reduction)
    found = MaskedCrossentropy(reduction=reduction)(labels, logits, sample_weight=weight)
    # Keras' loss takes weights of [B] for such of the tokens where B = T only.
    wanted = keras_loss(
        labels,
        logits,
        sample_weight=weight
        if weight is None
        else np.broadcast_to(weight[:, None] if weight.ndim == 1 else weight, (B, T)),
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_keras_mask_on_the_logits_is_honoured(labels, logits):
    mask = np.arange(T) < 2
    masked = keras.layers.Masking()(logits)
    masked._keras_mask = ops.convert_to_tensor(np.broadcast_to(mask, (B, T)))
    found = MaskedCrossentropy()(labels, masked)
    np.testing.assert_allclose(found, MaskedCrossentropy()(labels * mask, logits), rtol=1e-6)


def new_model(loss, **options):
    """A model whose logits are its inputs times 1, so that its loss is known."""
    inputs = keras.Input((None, V))
    outputs = keras.layers.Dense(V, use_bias=False, kernel_initializer="identity")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(options.pop("rate", 0.0)), loss, **options)
    return model


@pytest.mark.trains
@pytest.mark.parametrize("jit_compile", [False, True] if keras.config.backend() == "tensorflow" else ["auto"])
@pytest.mark.parametrize("block", [None, 4])
def test_fit_and_evaluate_give_the_mean_over_tokens(block, jit_compile, labels, logits):
    model = new_model(MaskedCrossentropy(0.1, block), jit_compile=jit_compile)
    wanted = oracle(labels, logits, 0.1)[0].sum() / np.count_nonzero(labels)
    history = model.fit(logits, labels, batch_size=B, verbose=0).history
    np.testing.assert_allclose(history["loss"], [wanted], rtol=1e-6)
    np.testing.assert_allclose(model.evaluate(logits, labels, batch_size=B, verbose=0), wanted, rtol=1e-6)


@pytest.mark.trains
def test_batches_count_by_their_rows(labels, logits):
    model = new_model(MaskedCrossentropy())
    losses = oracle(labels, logits)[0]
    means = [rows.sum() / np.count_nonzero(ids) for rows, ids in ((losses[:2], labels[:2]), (losses[2:], labels[2:]))]
    found = model.evaluate(logits, labels, batch_size=2, verbose=0)
    np.testing.assert_allclose(found, (2 * means[0] + means[1]) / 3, rtol=1e-6)


@pytest.mark.trains
def test_one_step_of_training(labels, logits):
    model = new_model(MaskedCrossentropy(0.1, 4), rate=0.5)
    model.fit(logits, labels, batch_size=B, verbose=0)
    gradients = oracle(labels, logits, 0.1)[1] / np.count_nonzero(labels)
    wanted = np.eye(V) - 0.5 * np.einsum("btv,btw->vw", logits, gradients)
    np.testing.assert_allclose(ops.convert_to_numpy(model.weights[0]), wanted, atol=1e-5)


@pytest.mark.trains
def test_trains_in_mixed_precision(labels, logits):
    inputs = keras.Input((None, V))
    model = keras.Model(inputs, keras.layers.Dense(V, dtype="mixed_bfloat16")(inputs))
    model.compile(keras.optimizers.Adam(0.1), MaskedCrossentropy(0.1, 4))
    losses = model.fit(logits, labels, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.trains
def test_reloads_with_its_model(labels, logits, tmp_path):
    model = new_model(MaskedCrossentropy(0.1, 4, reduction="sum"))
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert (
        reloaded.loss.get_config()
        == model.loss.get_config()
        == {
            "name": "masked_crossentropy",
            "reduction": "sum",
            "label_smoothing": 0.1,
            "vocabulary_block": 4,
            "special_ids": keras.saving.serialize_keras_object(SpecialIds()),
        }
    )
    assert reloaded.evaluate(logits, labels, verbose=0) == model.evaluate(logits, labels, verbose=0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model.loss))
    np.testing.assert_array_equal(again(labels, logits), model.loss(labels, logits))


def test_bad_arguments_are_named(labels, logits):
    with pytest.raises(
        ValueError, match=r"`label_smoothing` must be a number in \[0, 1\). Received: label_smoothing=1"
    ):
        MaskedCrossentropy(label_smoothing=1)
    with pytest.raises(ValueError, match="`vocabulary_block` must be an integer of at least 1"):
        MaskedCrossentropy(vocabulary_block=0)
    loss = MaskedCrossentropy()
    with pytest.raises(ValueError, match=r"`y_pred` must have 3 axes, \[B, T, V\]. Received: y_pred.shape=\(3, 5\)"):
        loss(labels, logits[..., 0])
    with pytest.raises(ValueError, match=r"`y_pred` must have shape \[B, T, V\] with T=5 as in `y_true`"):
        loss(labels, logits[:, :3])
    with pytest.raises(ValueError, match="`y_true` must hold integer ids. Received: y_true.dtype=float32"):
        loss(labels.astype("float32"), logits)
    with pytest.raises(ValueError, match="`y_true` must hold ids from 0 to 10. Received: ids from 0 to 11"):
        loss(np.where(labels == labels.max(), V, labels), logits)
    with pytest.raises(ValueError, match=r"`sample_weight` must broadcast to \[B, T\] = \(3, 5\)"):
        loss(labels, logits, sample_weight=np.ones((B, 2), "float32"))


@pytest.mark.trains
@pytest.mark.parametrize("block", [None, 4])
@pytest.mark.parametrize("jit_compile", [False, True] if keras.config.backend() == "tensorflow" else ["auto"])
def test_strange_labels_are_never_trained_on_unawares(jit_compile, block, labels, logits):
    inputs = keras.Input((T, V))
    model = keras.Model(inputs, keras.layers.Dense(V)(inputs))
    model.compile("sgd", MaskedCrossentropy(0.1, block), jit_compile=jit_compile)
    before = model.get_weights()
    for label in (-1, V, 2**32 + 5, 2.5):
        strange = labels.astype("float32" if isinstance(label, float) else "int64")
        model.set_weights(before)
        if keras.config.backend() != "torch":  # which has no graph
            assert np.isfinite(model.fit(logits, strange, verbose=0).history["loss"][0])  # whole numbers are ids
        strange[0, 1] = label
        if keras.config.backend() == "torch":
            with pytest.raises(ValueError, match="`y_true` must hold "):
                model.fit(logits, strange, verbose=0)
            continue
        assert np.isnan(model.fit(logits, strange, verbose=0).history["loss"][0])
        assert np.isnan(keras.ops.convert_to_numpy(model.weights[0])).any()
