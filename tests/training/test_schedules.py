"""The schedules: values by hand, arguments, and inside an optimizer that is saved."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn.training import InverseSquareRoot, LinearDecay, LinearWarmup

Cosine = keras.optimizers.schedules.CosineDecay


def rates(schedule, *steps):
    return [float(schedule(step)) for step in steps]


def test_inverse_square_root_by_hand():
    schedule = InverseSquareRoot(0.6, warmup_steps=3)
    wanted = [0.2, 0.4, 0.6, 0.6 * (3 / 4) ** 0.5, 0.3, 0.2]
    np.testing.assert_allclose(rates(schedule, 0, 1, 2, 3, 11, 26), wanted, rtol=1e-6)


def test_it_is_the_schedule_of_the_paper():
    size, warmup = 512, 4000
    schedule = InverseSquareRoot((size * warmup) ** -0.5, warmup)
    for n in (1, 100, 4000, 100_000):
        wanted = size**-0.5 * min(n**-0.5, n * warmup**-1.5)
        np.testing.assert_allclose(rates(schedule, n - 1), [wanted], rtol=1e-6)


def test_warm_up_to_a_rate_or_a_schedule():
    np.testing.assert_allclose(rates(LinearWarmup(0.6, 3), 0, 1, 2, 3, 99), [0.2, 0.4, 0.6, 0.6, 0.6], rtol=1e-6)
    after = Cosine(0.6, 100)
    wanted = [0.2, 0.4, 0.6, float(after(1)), float(after(50)), 0]
    np.testing.assert_allclose(rates(LinearWarmup(after, 3), 0, 1, 2, 3, 52, 102), wanted, rtol=1e-6, atol=1e-8)


def test_linear_decay_by_hand():
    schedule = LinearDecay(0.6, warmup_steps=3, total_steps=5)
    np.testing.assert_allclose(rates(schedule, *range(7)), [0.2, 0.4, 0.6, 0.4, 0.2, 0, 0], atol=1e-7)
    np.testing.assert_allclose(rates(LinearDecay(0.6, 2, 2), 0, 1, 2), [0.3, 0.6, 0], atol=1e-7)


@pytest.mark.trains
@pytest.mark.parametrize(
    "schedule",
    [InverseSquareRoot(0.6, 3), LinearWarmup(Cosine(0.6, 100), 3), LinearWarmup(0.6, 3), LinearDecay(0.6, 3, 5)],
)
def test_inside_a_saved_model(schedule, tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(schedule), lambda y_true, y_pred: -y_pred, jit_compile=False)
    x = np.ones((4, 1), "float32")
    model.fit(x, x, batch_size=1, verbose=0)  # the gradient is -1
    np.testing.assert_allclose(
        np.sum(rates(schedule, 0, 1, 2, 3)), ops.convert_to_numpy(model.weights[0])[0, 0], rtol=1e-6
    )
    model.compile(keras.optimizers.Adam(schedule), "mse")
    model.fit(x, x, batch_size=2, verbose=0)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert reloaded.optimizer.get_config() == model.optimizer.get_config()
    np.testing.assert_allclose(float(reloaded.optimizer.learning_rate), rates(schedule, 2)[0], rtol=1e-6)


def test_bad_arguments_are_named():
    for kind, name in ((InverseSquareRoot, "peak"), (LinearWarmup, "after")):
        for wrong in (0, -1.0, float("nan"), "fast", True):
            with pytest.raises(ValueError, match=f"`{name}` must be a number above 0. Received: {name}="):
                kind(wrong, 3)
        with pytest.raises(
            ValueError, match="`warmup_steps` must be an integer of at least 1. Received: warmup_steps=0"
        ):
            kind(0.1, 0)
    with pytest.raises(ValueError, match="`peak` must be a number above 0"):
        LinearDecay(-1, 2, 3)
    with pytest.raises(ValueError, match="`total_steps` must be an integer of at least 1"):
        LinearDecay(0.1, 2, 3.5)
    with pytest.raises(ValueError, match="`total_steps` must be at least `warmup_steps`=3. Received: total_steps=2"):
        LinearDecay(0.1, 3, 2)
