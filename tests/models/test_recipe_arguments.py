"""What recipes take beside sizes: key heads, scores, blocks, tied embeddings; and the mask on their logits."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import models

SMALL = {"num_layers": 1, "size": 8, "num_heads": 2, "hidden_size": 11, "dropout": 0.0}
SOURCE = np.array([[5, 6, 2], [7, 2, 0]])
TARGET = np.array([[1, 7, 8, 9], [1, 5, 0, 0]])


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def transformer(**named):
    return models.Transformer(11, 13, **SMALL, **named)


def causal(**named):
    return models.CausalTransformer(13, **SMALL, **named)


def data(model):
    return {"source": SOURCE, "target": TARGET} if "source" in model.sides else {"target": TARGET}


def attentions(model):
    """The attention layers of a model by their names in a block."""
    parts = [layer for layer in model._flatten_layers() if isinstance(layer, ka.attention.multi_head.MultiHead)]
    return [part for part in parts if part.name in ("attention", "memory_attention")]


def check_reloads_and_decodes(model, folder):
    """The model is the same after `.keras`, and its steps are those of the whole call."""
    model.save(folder / "model.keras")
    again = keras.models.load_model(folder / "model.keras")
    wanted = numpy(model(data(model)))
    np.testing.assert_array_equal(numpy(again(data(model))), wanted)
    source = SOURCE if "source" in model.sides else TARGET[:, :1]
    state = model.init_state(source, 5)
    for i in range(3):
        logits, state = model.step(TARGET[:, i], state, i)
        np.testing.assert_allclose(numpy(logits)[0], wanted[0, i], atol=1e-5)
    tokens = model.generate(source, max_length=4).tokens
    np.testing.assert_array_equal(numpy(again.generate(source, max_length=4).tokens), numpy(tokens))


@pytest.mark.parametrize("make", [transformer, causal])
def test_fewer_key_heads_and_a_score(make, tmp_path):
    model = make(num_kv_heads=1, score=ka.DotProduct(norm=ka.RMSNorm(), softcap=5.0))
    found = attentions(model)
    assert len(found) == (3 if make is transformer else 1)
    for attention in found:
        assert attention.num_kv_heads == 1 and attention.score.softcap == 5.0
        assert attention.query_norm is not None
    check_reloads_and_decodes(model, tmp_path)


def test_blocks_of_ones_own(tmp_path):
    encoder_block = ka.EncoderBlock(4, 7, residual=ka.PreNorm(), activation="gelu")
    decoder_block = ka.DecoderBlock(1, 5, feed_forward=ka.GatedFeedForward(5))
    model = models.Transformer(11, 13, 1, 8, encoder_block=encoder_block, decoder_block=decoder_block)
    assert model.get_layer("encoder").blocks[0].attention.num_heads == 4
    assert isinstance(model.get_layer("decoder").blocks[0].feed_forward, ka.GatedFeedForward)
    check_reloads_and_decodes(model, tmp_path)


def test_one_block_of_ones_own():
    model = transformer(encoder_block=ka.EncoderBlock(4, 7))
    assert model.get_layer("encoder").blocks[0].hidden_size == 7
    assert model.get_layer("decoder").blocks[0].hidden_size == 11


def test_a_causal_block_of_ones_own(tmp_path):
    block = ka.EncoderBlock(2, 7, mask=ka.Causal() & ka.Window(3), residual=ka.PreNorm(), dropout=0.0)
    model = models.CausalTransformer(13, 2, 8, block=block)
    assert [each.hidden_size for each in model.get_layer("blocks").blocks] == [7, 7]
    check_reloads_and_decodes(model, tmp_path)


@pytest.mark.parametrize("make", [transformer, causal])
def test_tied_embeddings_are_the_matrix_of_the_logits(make, tmp_path):
    model, plain = make(tied_embeddings=True), make()
    assert plain.count_params() - model.count_params() == 13 * 8 + 13
    embedding = model.get_layer("target_embedding")
    before = numpy(model(data(model)))
    embedding.set_weights([2 * weight for weight in embedding.get_weights()])
    assert np.abs(numpy(model(data(model))) - before).max() > 1e-3
    check_reloads_and_decodes(model, tmp_path)


def test_tied_logits_are_products_with_the_embeddings():
    model = causal(tied_embeddings=True)
    inner = keras.Model(model.inputs, model.get_layer("blocks").output)
    matrix = numpy(model.get_layer("target_embedding").embeddings)
    np.testing.assert_allclose(numpy(model(data(model))), numpy(inner(data(model))) @ matrix.T, atol=1e-5)


def test_a_recurrent_recipe_takes_a_score(tmp_path):
    score = ka.MultiplicativeScore()
    model = models.RNNSeq2Seq(11, 13, size=8, score=score)
    assert isinstance(model.get_layer("decoder").score, ka.MultiplicativeScore)
    assert not score.built  # the recipe clones it
    check_reloads_and_decodes(model, tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: causal(block=ka.EncoderBlock(2, 7, mask=ka.Causal())),
            "`num_heads` belongs to the block, and must not be combined with `block`. Received: num_heads=2",
        ),
        (
            lambda: models.CausalTransformer(13, 1, 8, block=ka.EncoderBlock(2, 7, mask=ka.Causal()), num_kv_heads=1),
            "`num_kv_heads` belongs to the block",
        ),
        (
            lambda: models.CausalTransformer(
                13, 1, 8, block=ka.EncoderBlock(2, 7, mask=ka.Causal()), position=ka.Rotary()
            ),
            "`position` belongs to the block",
        ),
        (lambda: models.CausalTransformer(13, 1, 8, block=ka.EncoderBlock(2, 7)), "must hide the future"),
        (
            lambda: models.Transformer(
                11, 13, 1, 8, encoder_block=ka.EncoderBlock(2, 7), decoder_block=ka.DecoderBlock(2, 7), hidden_size=7
            ),
            "`hidden_size` belongs to the block, and must not be combined with `encoder_block` and `decoder_block`",
        ),
        (lambda: transformer(num_kv_heads=3), "`num_heads` must be a multiple of `num_kv_heads`"),
    ],
)
def test_what_would_be_ignored_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


MAKE = {
    "transformer": transformer,
    "tied": lambda: transformer(tied_embeddings=True),
    "causal": causal,
    "rnn": lambda: models.RNNSeq2Seq(11, 13, size=8),
}


@pytest.mark.parametrize("name", MAKE)
def test_logits_carry_the_padding_mask(name):
    model = MAKE[name]()
    logits = model(data(model))
    np.testing.assert_array_equal(numpy(logits._keras_mask), TARGET != 0)


@pytest.mark.trains
@pytest.mark.parametrize("name", MAKE)
def test_a_plain_keras_loss_and_metric_leave_padding_out(name):
    model = MAKE[name]()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()])
    labels = np.array([[7, 8, 9, 2], [5, 2, 0, 0]])
    logits = numpy(model(data(model))).astype("float64")
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = -np.take_along_axis(log_probs, labels[..., None], -1)[..., 0]
    real = TARGET != 0
    measured = model.evaluate(data(model), labels, verbose=0, return_dict=True)
    np.testing.assert_allclose(measured["loss"], picked[real].mean(), rtol=1e-4)
    right = (logits.argmax(-1) == labels)[real].mean()
    np.testing.assert_allclose(measured["sparse_categorical_accuracy"], right, rtol=1e-5)
    history = model.fit(data(model), labels, verbose=0)
    np.testing.assert_allclose(history.history["loss"], picked[real].mean(), rtol=1e-4)
