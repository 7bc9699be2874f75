"""The text encoder: inputs, padding, positions, segments, poolings by hand, heads, saving."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import models
from keras_attn.base.activations import gelu_tanh, quick_gelu, squared_relu
from keras_attn.layers.norms import NoNorm
from keras_attn.models import heads
from keras_attn.models.pooling import First, Last, Max, Mean, MeanSqrtLength, Pooling, UnitLength, WeightedMean

V, D = 13, 8
SMALL = {"num_layers": 2, "size": D, "num_heads": 2, "hidden_size": 11, "dropout": 0.0}
SOURCE = np.array([[5, 6, 2, 9, 11], [7, 2, 0, 0, 0], [1, 0, 0, 0, 0]], "int32")
SEGMENTS = np.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], "int32")
REAL = SOURCE != 0


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def make(**named):
    return models.TextEncoder(V, **{**SMALL, **named})


HEADS = {
    "hidden states": (None, (3, 5, D)),
    "embedding": (heads.SentenceEmbedding(), (3, D)),
    "embedding with maps": (heads.SentenceEmbedding([First(), Max()], [heads.Transform(5)], normalize=False), (3, 5)),
    "attention pooling": (heads.SentenceEmbedding(ka.AttentionPooling(units=3)), (3, D)),
    "classification": (heads.Classification(4, transform=heads.Transform(7, norm=ka.LayerNorm(), dropout=0.1)), (3, 4)),
    "classification by attention": (heads.Classification(4, ka.AttentionPooling(), dropout=0.1), (3, 4)),
    "tokens": (heads.TokenClassification(4, dropout=0.1), (3, 5, 4)),
    "masked words": (heads.MaskedWords(), (3, 5, V)),
    "masked words, untied": (heads.MaskedWords(None, tied=False), (3, 5, V)),
    "masked words, no bias": (heads.MaskedWords(None, use_bias=False), (3, 5, V)),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_reload_and_ignore_padding(name, tmp_path):
    head, shape = HEADS[name]
    model = make(head=head, num_layers=1, num_segments=2, activation=gelu_tanh)
    inputs = {"source": SOURCE, "segments": SEGMENTS}
    outputs = numpy(model(inputs))
    assert outputs.shape == shape and outputs.dtype == "float32"
    wider = {key: np.pad(array, ((0, 0), (0, 3))) for key, array in inputs.items()}
    again = numpy(model(wider))
    if len(shape) == 3:
        np.testing.assert_allclose(again[:, :5][REAL], outputs[REAL], atol=1e-5)
        np.testing.assert_array_equal(numpy(model(inputs)._keras_mask), REAL)
    else:
        np.testing.assert_allclose(again, outputs, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(inputs)), outputs)
    assert loaded.head.__class__ is model.head.__class__ and loaded.max_length == 512


@pytest.mark.parametrize("name", ["embedding with maps", "masked words"])
def test_int8_reloads(name, tmp_path):
    model, inputs = make(head=HEADS[name][0], num_layers=1, num_segments=2), {"source": SOURCE, "segments": SEGMENTS}
    outputs = numpy(model(inputs))
    model.quantize("int8")
    model.save(tmp_path / "int8.keras")
    small = keras.models.load_model(tmp_path / "int8.keras")
    np.testing.assert_array_equal(numpy(small(inputs)), numpy(model(inputs)))
    np.testing.assert_allclose(numpy(small(inputs)), outputs, atol=0.1 * np.abs(outputs).max())


def test_segments_may_be_left_out():
    model = make(num_segments=3)
    assert model.optional_inputs == ("segments",)
    zeros = numpy(model({"source": SOURCE, "segments": np.zeros_like(SOURCE)}))
    for inputs in ({"source": SOURCE}, SOURCE, [SOURCE], {"source": ops.convert_to_tensor(SOURCE)}):
        np.testing.assert_array_equal(numpy(model(inputs)), zeros)
    np.testing.assert_allclose(model.predict({"source": SOURCE}, verbose=0), zeros, atol=1e-6)
    assert np.abs(numpy(model({"source": SOURCE, "segments": SEGMENTS})) - zeros)[REAL].max() > 1e-3
    symbolic = model({"source": keras.Input((None,), dtype="int32")})
    assert symbolic.shape == (None, None, D)


def test_one_segment_is_added_everywhere():
    plain, one = make(), make(num_segments=1)
    assert set(one.input) == {"source"}
    vector = one.get_layer("segments_embedding")
    others = [layer for layer in one.layers if layer.weights and layer is not vector]
    for layer in others:
        plain.get_layer(layer.name).set_weights(layer.get_weights())
    table = plain.get_layer("source_embedding")
    table.set_weights([table.get_weights()[0] + vector.get_weights()[0]])
    np.testing.assert_allclose(numpy(one(SOURCE)), numpy(plain(SOURCE)), atol=1e-5)


def test_inputs_that_are_refused():
    model, plain = make(num_segments=2), make()
    with pytest.raises(ValueError, match=r"names \('source',\) and may have \('segments',\). .*unknown: \['target'\]"):
        model({"source": SOURCE, "target": SOURCE})
    with pytest.raises(ValueError, match=r"names \('source',\). Received: .*unknown: \['segments'\]"):
        plain({"source": SOURCE, "segments": SEGMENTS})
    with pytest.raises(ValueError, match=r"missing: \['source'\]"):
        model.predict({"segments": SEGMENTS})
    with pytest.raises(ValueError, match="`segments` must hold ids from 0 to 1. Received: .* from 0 to 2"):
        model({"source": SOURCE, "segments": 2 * SEGMENTS})
    with pytest.raises(ValueError, match="`source` must hold ids from 0 to 12"):
        model(SOURCE + 9)
    with pytest.raises(ValueError, match=r"`segments` must have shape \[B, S\] with S=5 as in `source`"):
        model({"source": SOURCE, "segments": SEGMENTS[:, :3]})
    with pytest.raises(ValueError, match="`inputs` may have at most max_length=4 positions"):
        make(position=ka.Learned(4))(SOURCE)


def test_positions_with_an_offset_count_real_ids():
    """By hand: positions 0, 1, 2 of the real ids are rows 3, 4, 5 of the table."""
    model = make(position=ka.Learned(7, offset=3), count_padding=False, num_layers=1, embedding_norm=None)
    table = numpy(model.get_layer("source_position").embedding.embeddings)
    assert table.shape == (10, D)
    assert model.max_length == 7
    words = numpy(model.get_layer("source_embedding").embeddings)
    inner = keras.Model(model.inputs, model.get_layer("source_dropout").output)
    ids = np.array([[0, 5, 0, 6, 2]])
    embedded = numpy(inner({"source": ids}))[0]
    for place, (word, row) in {1: (5, 3), 3: (6, 4), 4: (2, 5)}.items():
        np.testing.assert_allclose(embedded[place], words[word] + table[row], atol=1e-6)
    shifted = np.array([[5, 6, 2, 0, 0]])
    np.testing.assert_allclose(numpy(model(ids))[0, [1, 3, 4]], numpy(model(shifted))[0, :3], atol=1e-5)
    counted = make(position=ka.Learned(7), num_layers=1)
    assert np.abs(numpy(counted(ids))[0, [1, 3, 4]] - numpy(counted(shifted))[0, :3]).max() > 1e-3


def test_blocks_of_ones_own(tmp_path):
    """ModernBERT's form: local and global attention, no norm before the first attention, norms without bias."""
    norm = ka.LayerNorm(1e-5, center=False)
    blocks = [
        ka.EncoderBlock(
            2,
            7,
            mask=ka.Window(2) if i else None,
            position=ka.Rotary(),
            residual=ka.PreNorm([norm if i else NoNorm(), norm]),
            feed_forward=ka.GatedFeedForward(7, "gelu", use_bias=False),
        )
        for i in range(2)
    ]
    model = models.TextEncoder(V, 2, D, block=blocks, position=ka.positions.NoPosition(), embedding_norm=norm)
    first, second = model.get_layer("encoder").blocks
    assert not first.norms[0].weights and len(second.norms[0].weights) == 1
    assert model.max_length is None and model.get_layer("encoder").final_norm.center is False
    outputs = numpy(model(SOURCE))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(keras.models.load_model(tmp_path / "model.keras")(SOURCE)), outputs)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"head": "mean"}, "`head` must be a Head"),
        ({"num_segments": -1}, "`num_segments` must be an integer of at least 0"),
        ({"embedding_norm": keras.layers.LayerNormalization()}, "`embedding_norm` must be a Norm"),
        ({"block": ka.EncoderBlock(2, 7)}, "`num_heads` belongs to the block"),
        ({"num_heads": 3}, "`size` must be a multiple of `num_heads`"),
        ({"embedding_dropout": 1.0}, "`embedding_dropout` must be"),
        ({"position": "learned"}, "`position` must be a layer that adds positions"),
    ],
)
def test_arguments_that_are_refused(named, message):
    with pytest.raises(ValueError, match=message):
        make(**named)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heads.SentenceEmbedding("mean"), "`kind` must be a plain pooling or a list of them"),
        (lambda: heads.SentenceEmbedding([]), "`kind` must be a plain pooling or a list of them"),
        (lambda: heads.SentenceEmbedding(maps=[3]), "`maps` must hold `Transform` objects. Received: 3"),
        (lambda: heads.SentenceEmbedding(ka.AttentionPooling(num_hops=2)), "`pooling` must have one hop"),
        (lambda: heads.Classification(0), "`num_labels` must be"),
        (lambda: heads.Classification(2, ka.AttentionPooling(num_hops=2)), "`pooling` must have one hop"),
        (lambda: heads.TokenClassification(2, transform="tanh"), "`transform` must be a Transform"),
        (lambda: heads.Transform(0), "`units` must be"),
        (lambda: ka.LayerNorm(center=1), "`center` must be True or False"),
        (lambda: ka.Learned(3, offset=-1), "`offset` must be an integer of at least 0"),
        (lambda: ka.PreNorm([]), "`norm` must be a norm or a list of norms"),
        (lambda: ka.EncoderBlock(2, 7, residual=ka.PreNorm([NoNorm()])), "each of the block's 2 sublayers"),
        (lambda: Pooling("mean"), "`kind` must be a plain pooling"),
    ],
)
def test_slots_that_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


STATES = np.array([[[1.0, -4.0], [5.0, -8.0], [3.0, -3.0], [90.0, 90.0]]], "float32")
BY_HAND = {  # padding at the end, and padding at the start
    First(): ([1.0, -4.0], [5.0, -8.0]),
    Last(): ([3.0, -3.0], [90.0, 90.0]),
    Mean(): ([3.0, -5.0], [98 / 3, 79 / 3]),
    MeanSqrtLength(): ([9 / 3**0.5, -15 / 3**0.5], [98 / 3**0.5, 79 / 3**0.5]),
    WeightedMean(): ([20 / 6, -29 / 6], [281 / 6, 256 / 6]),
    Max(): ([5.0, -3.0], [90.0, 90.0]),
}


@pytest.mark.parametrize("kind", BY_HAND, ids=repr)
def test_poolings_by_hand(kind):
    layer = Pooling(kind)
    masks = np.array([[True, True, True, False]]), np.array([[False, True, True, True]])
    for mask, wanted in zip(masks, BY_HAND[kind], strict=True):
        np.testing.assert_allclose(numpy(layer(STATES, mask=mask))[0], wanted, rtol=1e-6)
        hidden = np.where(mask[..., None], STATES, np.nan)
        np.testing.assert_allclose(numpy(layer(hidden, mask=mask))[0], wanted, rtol=1e-6)
    np.testing.assert_array_equal(numpy(layer(STATES, mask=np.zeros((1, 4), "bool"))), [[0, 0]])
    np.testing.assert_allclose(numpy(layer(STATES)), numpy(layer(STATES, mask=np.ones((1, 4), "bool"))))
    assert Pooling.from_config(layer.get_config()).kind == kind


def test_several_poolings_are_joined():
    layer = Pooling([Mean(), Max()])
    mask = np.array([[True, True, True, False]])
    np.testing.assert_allclose(numpy(layer(STATES, mask=mask)), [[3, -5, 5, -3]])
    assert layer.compute_output_shape((None, None, 2)) == (None, 4)
    half = Pooling(Mean(), dtype="bfloat16")
    assert keras.backend.standardize_dtype(half(STATES).dtype) == "bfloat16"
    assert half.compute_output_spec(keras.KerasTensor((1, 4, 2))).dtype == "bfloat16"


def test_unit_length():
    np.testing.assert_allclose(numpy(UnitLength()(np.array([[3.0, -4.0], [0, 0]], "float32"))), [[0.6, -0.8], [0, 0]])


def test_activations():
    x = np.linspace(-3, 3, 7).astype("float32")
    tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(numpy(gelu_tanh(ops.convert_to_tensor(x))), tanh, atol=1e-6)
    np.testing.assert_allclose(numpy(quick_gelu(ops.convert_to_tensor(x))), x / (1 + np.exp(-1.702 * x)), atol=1e-6)
    np.testing.assert_allclose(numpy(squared_relu(ops.convert_to_tensor(x))), np.maximum(x, 0) ** 2, atol=1e-6)


def test_the_forward_pass_by_hand():
    """One block of BERT in NumPy, float64."""
    model = make(num_layers=1, num_heads=1, num_segments=2, activation="relu", head=heads.HiddenStates())
    parts = {weight.path.removeprefix("encoder/block_0/"): numpy(weight).astype("float64") for weight in model.weights}

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * parts[f"{name}/gamma"] + parts[f"{name}/beta"]

    def linear(x, name):
        return x @ parts[f"{name}/kernel"] + parts[f"{name}/bias"]

    x = parts["source_embedding/embeddings"][SOURCE] + parts["segments_embedding/embeddings"][SEGMENTS]
    x = norm(x + parts["source_position/embedding/embeddings"][:5], "source_norm")
    query, key, value = np.split(linear(x, "attention/in_projection"), 3, axis=-1)
    scores = np.exp(query @ key.swapaxes(1, 2) / np.sqrt(D)) * REAL[:, None]
    x = norm(x + linear(scores / scores.sum(-1, keepdims=True) @ value, "attention/out_projection"), "norm_0")
    hidden = np.maximum(linear(x, "feed_forward/hidden_projection"), 0)
    x = norm(x + linear(hidden, "feed_forward/out_projection"), "norm_1")
    ours = numpy(model({"source": SOURCE, "segments": SEGMENTS}))
    np.testing.assert_allclose(ours[REAL], x[REAL], atol=1e-5)


@pytest.mark.trains
def test_training_leaves_padding_out():
    model = make(head=heads.TokenClassification(3), num_layers=1)
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = np.where(REAL, SOURCE % 3, 0)
    logits = numpy(model(SOURCE)).astype("float64")
    picked = -np.take_along_axis(logits - np.log(np.exp(logits).sum(-1, keepdims=True)), labels[..., None], -1)[..., 0]
    np.testing.assert_allclose(model.evaluate(SOURCE, labels, verbose=0), picked[REAL].mean(), rtol=1e-4)
    history = model.fit({"source": SOURCE}, labels, epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        for head, _ in HEADS.values():
            outputs = make(head=head, num_layers=1)(SOURCE)
            assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
            assert np.all(np.isfinite(numpy(outputs)))
    finally:
        keras.config.set_dtype_policy("float32")
