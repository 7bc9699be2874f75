"""`export(dtype="bfloat16")`: rounded weights in half of the space, the numbers of a model in that dtype."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_attn as ka
from keras_attn import decoding, models, pretrained, serving
from keras_attn.serving.precision import in_dtype

pytestmark = pytest.mark.tensorflow

SOURCE = np.array([[5, 9, 4, 2], [7, 2, 0, 0]])
RECIPES = {
    "transformer": lambda: models.Transformer(23, 29, 1, 16, 2, 24, residual=ka.PreNorm()),
    "tied": lambda: models.Transformer(
        23, 23, 1, 16, 2, 24, embeddings=models.Embeddings(shared=True), head=models.LanguageHead(tied=True)
    ),
    "causal": lambda: models.CausalTransformer(
        29, 1, 16, 2, 24, position=ka.Rotary(), residual=ka.PreNorm(ka.RMSNorm())
    ),
    "rnn": lambda: models.RNNSeq2Seq(23, 29, size=16),
}


@pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)
def test_a_copy_has_rounded_weights_and_float32_logits(make):
    model = make()
    copy = in_dtype(model, "bfloat16")
    assert {weight.dtype for weight in copy.trainable_weights} == {"bfloat16"}
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}  # the model itself does not change
    for ours, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        wanted = tf.cast(theirs, tf.bfloat16) if theirs.dtype == np.float32 else theirs
        np.testing.assert_array_equal(tf.cast(ours, tf.float32), tf.cast(wanted, tf.float32))
    inputs = {"source": SOURCE, "target": SOURCE} if len(model.inputs) == 2 else {"target": SOURCE}
    logits, rounded = model(inputs), copy(inputs)
    assert rounded.dtype == tf.float32
    np.testing.assert_allclose(rounded, logits, atol=0.05 * np.ptp(logits))
    assert np.abs(rounded - logits).max() > 0
    again = copy.__class__.from_config(copy.get_config())  # the copy is an ordinary model
    assert again.dtype_policy.name == copy.dtype_policy.name


@pytest.mark.parametrize("name", ["transformer", "causal"])
def test_the_service_has_the_texts_of_the_copy_and_half_the_weights(name, tmp_path):
    model = RECIPES[name]()
    strategy = decoding.Beam(2)
    whole = serving.export(model, tmp_path / "whole", strategy=strategy, max_length=6)
    half = serving.export(model, tmp_path / "half", strategy=strategy, max_length=6, dtype="bfloat16")
    sizes = [sum(file.stat().st_size for file in folder.glob("variables/variables.data*")) for folder in (whole, half)]
    assert 0.45 * sizes[0] < sizes[1] < 0.6 * sizes[0]
    checkpoint = tf.train.load_checkpoint(half / "variables" / "variables")
    dtypes = {dtype for dtype in checkpoint.get_variable_to_dtype_map().values() if dtype.is_floating}
    assert dtypes == {tf.bfloat16}
    generate = tf.saved_model.load(half).signatures["generate"]
    named = {"max_length": tf.constant([6, 6]), "temperature": tf.ones(2)}
    found = generate(source=tf.constant(SOURCE, tf.int32), **named)
    assert {tensor.dtype for tensor in found.values()} <= {tf.float32, tf.int32}
    ours = in_dtype(model, "bfloat16").generate(SOURCE, strategy, max_length=6)
    np.testing.assert_array_equal(found["tokens"], ours.tokens)
    np.testing.assert_allclose(found["scores"], ours.scores, rtol=1e-2)
    assert serving.check(half).ok


def test_what_cannot_be_copied_is_refused(tmp_path):
    model = RECIPES["transformer"]()
    with pytest.raises(ValueError, match=r"`dtype` must be one of .* or None. Received: dtype='int8'"):
        serving.export(model, tmp_path, dtype="int8")
    ids = keras.Input((None,), dtype="int32")
    plain = keras.Model(ids, keras.layers.Embedding(5, 3)(ids))
    with pytest.raises(ValueError, match="`dtype` needs a model of `keras_attn.models` that generates"):
        serving.export(plain, tmp_path, dtype="bfloat16")
    assert not list(tmp_path.iterdir())


def test_a_pretrained_model_keeps_everything_but_its_dtype():
    special_ids = ka.SpecialIds(padding=None, start=3, end=4, unknown=None)
    model = models.CausalTransformer(29, 1, 16, 2, 24, position=ka.Rotary(), special_ids=special_ids)
    strategy = decoding.Beam(3)
    loaded = pretrained.Pretrained(
        model, "text_generation", None, None, special_ids, strategy, (), "linear", "llama", 7
    )
    copy = in_dtype(loaded, "bfloat16")
    assert copy.model.special_ids == special_ids
    dtypes = {layer.name: layer.compute_dtype for layer in copy.model.layers}
    assert dtypes == {
        layer.name: "float32" if layer.name in ("target", "logits") else "bfloat16" for layer in model.layers
    }
    assert (copy.strategy, copy.max_new_tokens, copy.family) == (strategy, 7, "llama")
