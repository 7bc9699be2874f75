"""What every layer must do under TensorFlow: graphs, XLA, `fit`, `.keras`, SavedModel, int8, LoRA."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.cases import CASES, SIZES

pytestmark = pytest.mark.tensorflow

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def loss_and_gradients(case, layer, variables):
    """A function from arguments and masks to a scalar and its gradients by inputs and weights."""

    def compute(arguments, masks):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(arguments.values()))
            for variable in variables:
                tape.watch(variable.value)
            outputs = layer(**arguments, **masks)
            weights = tf.reshape(tf.cast(tf.range(tf.size(outputs)) % 7, outputs.dtype), tf.shape(outputs))
            loss = tf.reduce_sum(weights * tf.sin(outputs))
        sources = [*arguments.values(), *(variable.value for variable in variables)]
        gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
        return outputs, loss, [tf.convert_to_tensor(gradient) for gradient in gradients]

    return compute


@each_case
def test_eager_graph_and_xla_agree(case, rng):
    layer = case.make()
    arguments = {name: tf.constant(array) for name, array in case.arguments(rng).items()}
    masks = {name: tf.constant(mask) for name, mask in case.padding(rng).items()}
    layer(**arguments, **masks)
    compute = loss_and_gradients(case, layer, layer.trainable_variables)
    eager = compute(arguments, masks)
    free = {name: tf.TensorSpec((None, None, t.shape[2]), t.dtype) for name, t in arguments.items()}
    free_masks = {name: tf.TensorSpec((None, None), tf.bool) for name in masks}
    graph = tf.function(compute, input_signature=[free, free_masks])(arguments, masks)
    xla = tf.function(compute, jit_compile=True)(arguments, masks)
    for other in (graph, xla):
        for one, two in zip(tf.nest.flatten(eager), tf.nest.flatten(other), strict=True):
            np.testing.assert_allclose(one, two, atol=2e-5, rtol=2e-5)


@each_case
def test_gradients_against_finite_differences(case, rng):
    layer = case.make(dtype="float64")
    arguments = {name: tf.constant(array) for name, array in case.arguments(rng, dtype="float64").items()}
    masks = {name: tf.constant(mask) for name, mask in case.padding(rng).items()}
    layer(**arguments, **masks)
    for weight in layer.trainable_variables:
        weight.assign(weight.value + 0.3 * rng.normal(size=weight.shape))
    compute = tf.function(loss_and_gradients(case, layer, layer.trainable_variables))
    _, _, gradients = compute(arguments, masks)
    points = [*arguments, *layer.trainable_variables]
    for point, gradient in zip(points, gradients, strict=True):
        direction, step = rng.normal(size=gradient.shape), 1e-6  # small: ReLU has kinks
        losses = []
        for sign in (1, -1):
            if isinstance(point, str):
                moved = {**arguments, point: arguments[point] + sign * step * direction}
                losses.append(float(compute(moved, masks)[1]))
            else:
                old = point.value.numpy()
                point.assign(old + sign * step * direction)
                losses.append(float(compute(arguments, masks)[1]))
                point.assign(old)
        measured = (losses[0] - losses[1]) / (2 * step)
        np.testing.assert_allclose(
            np.sum(gradient * direction), measured, rtol=2e-5, atol=1e-6, err_msg=getattr(point, "path", point)
        )


@each_case
def test_no_gradient_to_padding_and_none_is_nan(case, rng):
    layer = case.make()
    arguments, masks = case.arguments(rng), case.padding(rng)
    masks["memory_mask" if "memory" in arguments else "inputs_mask"][0] = False
    arguments = {
        name: tf.constant(np.where(masks[f"{name}_mask"][..., None], array, np.nan).astype("float32"))
        for name, array in arguments.items()
    }
    layer(**arguments, **masks)
    _, loss, gradients = loss_and_gradients(case, layer, layer.trainable_variables)(arguments, masks)
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    for name, gradient in zip(arguments, gradients, strict=False):
        np.testing.assert_array_equal(gradient.numpy()[~masks[f"{name}_mask"]], 0)


@each_case
@pytest.mark.parametrize(
    "jit_compile",
    [pytest.param(False, id="graph"), pytest.param(True, id="xla", marks=pytest.mark.slow)],  # minutes in all
)
def test_training_step_moves_every_weight(case, jit_compile, rng):
    layer = case.make()
    model = case.model(layer)
    inputs = {**case.arguments(rng), **case.padding(rng)}
    if not layer.trainable_variables:
        pytest.skip("has no weights")
    before = [variable.numpy() for variable in layer.trainable_variables]
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit_compile)
    real = None if case.outputs else inputs[f"{next(iter(case.axes))}_mask"].astype("float32")
    batch = {"y": rng.normal(size=model(inputs).shape), "sample_weight": real, "batch_size": SIZES["B"], "verbose": 0}
    worse = model.evaluate(inputs, **batch)
    model.fit(inputs, epochs=5, **batch)
    assert model.evaluate(inputs, **batch) < worse
    for variable, old in zip(layer.trainable_variables, before, strict=True):
        assert np.any(variable.numpy() != old), variable.path


@each_case
def test_keras_file_and_saved_model_round_trip(case, rng, tmp_path):
    model = case.model(case.make(), scores=bool(case.scores))
    inputs = {**case.arguments(rng), **case.padding(rng)}
    wanted = tf.nest.flatten(model(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, two in zip(tf.nest.flatten(loaded(inputs)), wanted, strict=True):
        np.testing.assert_array_equal(one, two)
    loaded.export(tmp_path / "saved", verbose=False)
    reloaded = tf.saved_model.load(str(tmp_path / "saved"))
    for sizes in ({}, {"B": 2, "T": 3, "S": 4}):
        inputs = {**case.arguments(rng, **sizes), **case.padding(rng, **sizes)}
        served = reloaded.serve({name: tf.constant(array) for name, array in inputs.items()})
        for one, two in zip(tf.nest.flatten(served), tf.nest.flatten(model(inputs)), strict=True):
            np.testing.assert_allclose(one, two, atol=2e-6)


@each_case
def test_frozen_layers_stay_frozen(case, tmp_path):
    layer = case.make()
    model = case.model(layer)
    layer.trainable = False
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").trainable_weights == []


@each_case
def test_int8_round_trip(case, rng, tmp_path):
    layer = case.make()
    model = case.model(layer)
    inputs = {**case.arguments(rng), **case.padding(rng)}
    exact = model(inputs)
    model.quantize("int8")
    wanted = model(inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), wanted)
    np.testing.assert_allclose(wanted, exact, atol=0.1)
    modes = {variable.dtype for variable in loaded.variables}
    quantized = any(kind in case.name for kind in ("Head", "Attention", "Feed", "coder", "Learned"))
    assert ("int8" in modes) == (quantized and case.name != "RecurrentEncoder")  # Keras quantizes no cell


@each_case
def test_lora_is_merged_on_saving(case, rng, tmp_path):
    layer = case.make()
    model = case.model(layer)
    inputs = {**case.arguments(rng), **case.padding(rng)}
    projections = [each for each in layer._flatten_layers() if isinstance(each, keras.layers.Dense)]
    if not projections:
        pytest.skip("has no projection")
    for projection in projections:
        projection.enable_lora(2)
        projection.lora_kernel_b.assign(rng.normal(size=projection.lora_kernel_b.shape))
    wanted = model(inputs)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(inputs), wanted, atol=2e-5)
