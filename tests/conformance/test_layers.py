"""What every layer must do on every backend: shapes, masks, policies, configs, errors."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from tests.conformance.cases import CASES, SIZES, SLOT_LAYERS

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
PRECISION = {"float32": 1e-5, "mixed_bfloat16": 0.1, "bfloat16": 0.1, "mixed_float16": 0.02, "float64": 1e-9}


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


def outputs_of(case, layer, arguments, **masks):
    """Outputs and, where the case has them, scores, as float64 arrays."""
    if not case.scores:
        return (numpy(layer(**arguments, **masks)),)
    return tuple(numpy(tensor) for tensor in layer(**arguments, **masks, return_attention_scores=True))


def test_every_public_layer_has_a_case():
    public = {name: getattr(ka, name) for name in ka.__all__} | {"Pooling": ka.models.pooling.Pooling}
    layers = {
        name for name, value in public.items() if isinstance(value, type) and issubclass(value, keras.layers.Layer)
    }
    assert {case.name.split("-")[0] for case in CASES} | set(SLOT_LAYERS) == layers
    assert set(SLOT_LAYERS.values()) <= {case.name for case in CASES}


@each_case
def test_config_round_trip(case):
    layer = case.make()
    config = layer.get_config()
    again = layer.__class__.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert keras.saving.get_registered_name(layer.__class__).startswith("keras_attn>")


@each_case
def test_unknown_config_key_is_refused(case):
    config = {**case.make().get_config(), "colour": "blue"}
    with pytest.raises(ValueError, match="colour"):
        case.make().__class__.from_config(config)


@each_case
def test_symbolic_shapes_are_real_shapes(case, rng):
    layer, arguments = case.make(), case.arguments(rng)
    symbolic = {name: keras.KerasTensor(array.shape, "float32") for name, array in arguments.items()}
    free = {name: keras.KerasTensor((None, None, array.shape[2]), "float32") for name, array in arguments.items()}
    for flag in [{}, {"return_attention_scores": True}] if case.scores else [{}]:
        real = ops.shape(layer(**arguments, **flag)) if not flag else layer(**arguments, **flag)
        spec = layer.compute_output_spec(**symbolic, **flag)
        free_spec = layer.compute_output_spec(**free, **flag)
        if flag:
            assert [tuple(t.shape) for t in spec] == [tuple(t.shape) for t in real]
            assert [t.dtype for t in spec] == [keras.backend.standardize_dtype(t.dtype) for t in real]
            sizes = {**SIZES, "N": 2}
            assert tuple(real[1].shape) == tuple(sizes[letter] for letter in case.scores)
            assert tuple(free_spec[1].shape) == tuple(
                None if letter in "BTS" else sizes[letter] for letter in case.scores
            )
        else:
            assert tuple(spec.shape) == tuple(real)
            free_shape = tuple(None if letter in "BTS" else SIZES[letter] for letter in case.outputs)
            assert tuple(free_spec.shape) == (free_shape or (None, None, real[2]))
            assert layer.compute_output_shape(*(array.shape for array in arguments.values())) == tuple(real)


@each_case
@pytest.mark.parametrize("policy", PRECISION)
def test_dtype_policies(case, policy, rng):
    layer, arguments, masks = case.make(dtype=policy), case.arguments(rng), case.padding(rng)
    exact = case.make(dtype="float64")
    outputs = layer(**arguments, **masks)
    exact(**{name: array.astype("float64") for name, array in arguments.items()}, **masks)
    exact.set_weights([numpy(weight) for weight in layer.weights])
    wanted = exact(**{name: array.astype("float64") for name, array in arguments.items()}, **masks)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    assert np.all(np.isfinite(numpy(outputs)))
    np.testing.assert_allclose(numpy(outputs), numpy(wanted), atol=PRECISION[policy], rtol=PRECISION[policy])


@each_case
@pytest.mark.parametrize("garbage", [1e4, np.nan, np.inf])
def test_padding_is_ignored(case, garbage, rng):
    layer, arguments, masks = case.make(), case.arguments(rng), case.padding(rng)
    spoiled = {
        name: np.where(masks[f"{name}_mask"][..., None], array, garbage).astype("float32")
        for name, array in arguments.items()
    }
    clean = outputs_of(case, layer, arguments, **masks)
    dirty = outputs_of(case, layer, spoiled, **masks)
    for one, other in zip(clean, dirty, strict=True):
        assert np.all(np.isfinite(other))
        np.testing.assert_array_equal(one, other)


@each_case
def test_padding_equals_shorter_sequences(case, rng):
    layer, arguments, masks = case.make(), case.arguments(rng), case.padding(rng)
    padded = outputs_of(case, layer, arguments, **masks)[0]
    lengths = {name: masks[f"{name}_mask"].sum(1) for name in arguments}
    for row in range(SIZES["B"]):
        alone = {name: array[row : row + 1, : lengths[name][row]] for name, array in arguments.items()}
        wanted = outputs_of(case, layer, alone)[0][0]
        # In half precision, products of other shapes may round to the next number.
        atol = {"bfloat16": 2**-7, "float16": 2**-10}.get(keras.config.floatx(), 1e-5)
        np.testing.assert_allclose(padded[row, : len(wanted)], wanted, atol=atol)


@each_case
def test_keras_masks_are_honoured_and_passed_on(case, rng):
    layer, arguments, masks = case.make(), case.arguments(rng), case.padding(rng)
    tensors = {name: ops.convert_to_tensor(array) for name, array in arguments.items()}
    for name, tensor in tensors.items():
        tensor._keras_mask = ops.convert_to_tensor(masks[f"{name}_mask"])
    automatic = layer(*tensors.values())
    explicit = layer(*arguments.values(), **masks)
    np.testing.assert_allclose(numpy(automatic), numpy(explicit), atol=1e-6)
    if case.outputs:
        assert getattr(automatic, "_keras_mask", None) is None
        return
    first = next(iter(masks.values()))
    np.testing.assert_array_equal(ops.convert_to_numpy(automatic._keras_mask), first)
    if case.scores:
        outputs, scores = layer(*tensors.values(), return_attention_scores=True)
        np.testing.assert_array_equal(ops.convert_to_numpy(outputs._keras_mask), first)
        assert getattr(scores, "_keras_mask", None) is None


@each_case
def test_explicit_masks_win_over_keras_masks(case, rng):
    layer, arguments, masks = case.make(), case.arguments(rng), case.padding(rng)
    tensors = {name: ops.convert_to_tensor(array) for name, array in arguments.items()}
    for name, tensor in tensors.items():
        tensor._keras_mask = ops.convert_to_tensor(~masks[f"{name}_mask"])
    wanted = layer(**arguments, **masks)
    np.testing.assert_allclose(numpy(layer(**tensors, **masks)), numpy(wanted), atol=1e-6)


@each_case
def test_no_leak_from_the_future(case, rng):
    if not case.causal:
        pytest.skip("sees the whole sequence by design")
    layer, arguments = case.make(), case.arguments(rng)
    first = next(iter(arguments))
    before = numpy(layer(**arguments))
    for position in range(1, SIZES["T"]):
        changed = {name: array.copy() for name, array in arguments.items()}
        changed[first][:, position:] += 1
        after = numpy(layer(**changed))
        np.testing.assert_array_equal(after[:, :position], before[:, :position])
        assert np.any(after[:, position] != before[:, position])


@each_case
def test_rows_without_anything_to_see_are_finite_and_have_zero_scores(case, rng):
    layer, arguments, masks = case.make(), case.arguments(rng), case.padding(rng)
    for mask in masks.values():
        mask[1] = False
    results = outputs_of(case, layer, arguments, **masks)
    assert all(np.all(np.isfinite(result)) for result in results)
    if case.scores:
        np.testing.assert_array_equal(results[1][1], 0)


@pytest.mark.trains
@pytest.mark.skipif(keras.config.backend() == "tensorflow", reason="test_tensorflow.py trains, in graphs and under XLA")
@each_case
def test_training_moves_every_weight(case, rng):
    layer = case.make()
    model = case.model(layer)
    inputs = {**case.arguments(rng), **case.padding(rng)}
    if not layer.trainable_variables:
        pytest.skip("has no weights")
    before = layer.get_weights()
    # The next number after 1 is 1.008 in bfloat16: the one step is long enough to get there.
    model.compile(keras.optimizers.SGD(10.0 if keras.config.floatx().endswith("16") else 0.01), "mse")
    history = model.fit(inputs, rng.normal(size=tuple(model(inputs).shape)), verbose=0)
    assert np.all(np.isfinite(history.history["loss"]))
    trained = {variable.path for variable in layer.trainable_variables}
    for variable, old, new in zip(layer.weights, before, layer.get_weights(), strict=True):
        assert variable.path not in trained or np.any(new != old), variable.path


@each_case
def test_wrong_rank_names_the_argument(case, rng):
    arguments = case.arguments(rng)
    for name in arguments:
        flat = {**arguments, name: arguments[name][..., 0]}
        with pytest.raises(ValueError, match=rf"`{name}` must have 3 axes.*Received: {name}.shape=\(3, \d\)"):
            case.make()(**flat)
        symbolic = {key: keras.KerasTensor(array.shape, "float32") for key, array in flat.items()}
        with pytest.raises(ValueError, match=f"`{name}` must have 3 axes"):
            case.make()(**symbolic)


@each_case
def test_other_batch_size_names_the_argument(case, rng):
    if len(case.axes) == 1:
        pytest.skip("one sequence only")
    arguments = case.arguments(rng)
    arguments["memory"] = arguments["memory"][:-1]
    with pytest.raises(ValueError, match=r"`memory` must have shape .* with B=3 .*memory.shape=\(2, 7, 13\)"):
        case.make()(**arguments)


@each_case
def test_masks_that_do_not_fit_name_the_argument(case, rng):
    arguments, masks = case.arguments(rng), case.padding(rng)
    for name, mask in masks.items():
        with pytest.raises(ValueError, match=f"`{name}` must have shape"):
            case.make()(**arguments, **{**masks, name: mask[:, :-1]})


@each_case
def test_docstring_has_an_example_and_shapes(case):
    text = case.make().__class__.__doc__
    assert ">>> " in text
    assert "Returns" in text
    assert "Raises" in text
