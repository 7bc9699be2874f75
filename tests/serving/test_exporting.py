"""Export: version folders that appear whole or not at all, and what it refuses."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from keras.quantizers import Int8QuantizationConfig

import keras_attn as ka
from keras_attn import decoding, models, serving, text
from keras_attn.serving import exporting
from tests.serving.exports import TEXTS, L, Steps, ask, folder, letters, model, words

pytestmark = pytest.mark.tensorflow


def small(directory, **named):
    """The quickest export there is."""
    inputs = keras.Input((3,), name="x")
    outputs = keras.layers.Dense(2, name="y")(inputs)
    return serving.export(keras.Model(inputs, outputs), directory, **named)


def test_versions_count_up_and_may_be_given(tmp_path):
    directory = tmp_path / "deep" / "model"
    assert small(directory).name == "1"
    assert small(directory, version=7) == directory / "7"
    (directory / "notes").mkdir()
    (directory / "notes" / "9").write_text("no version")
    assert small(str(directory)).name == "8"
    assert sorted(os.listdir(directory)) == ["1", "7", "8", "notes"]
    with pytest.raises(ValueError, match="`version` must be a new one. Received: version=7, which"):
        small(directory, version=7)
    for version in (0, -1, 1.5, "2", True):
        with pytest.raises(ValueError, match="`version` must be a positive integer or None"):
            small(directory, version=version)


def test_a_server_that_polls_never_sees_half_a_model(tmp_path, monkeypatch):
    """While the draft is written and checked, no folder has a number; its files can then be read by all."""
    seen, real = [], exporting.findings
    monkeypatch.setattr(exporting, "findings", lambda path: seen.extend(os.listdir(tmp_path)) or real(path))
    path = small(tmp_path)
    assert len(seen) == 1 and not seen[0].isdecimal()
    assert os.listdir(tmp_path) == ["1"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o777 & ~mask


def test_two_exports_at_a_time_both_arrive(tmp_path, monkeypatch):
    real = exporting.publish

    def publish(draft, directory, version):
        monkeypatch.setattr(exporting, "publish", real)
        assert small(directory, version=version).name == "1"
        return real(draft, directory, version)

    monkeypatch.setattr(exporting, "publish", publish)
    assert small(tmp_path).name == "2"
    monkeypatch.setattr(exporting, "publish", publish)
    with pytest.raises(ValueError, match="`version` must be a new one. Received: version=1, created in the meantime"):
        small(tmp_path / "given", version=1)
    assert os.listdir(tmp_path / "given") == ["1"]


@pytest.mark.parametrize("end", ["error", "interrupt", "terminate"])
def test_an_interrupted_export_leaves_nothing_behind(tmp_path, monkeypatch, end):
    def stop(*arguments):
        if end == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        raise {"error": OSError, "interrupt": KeyboardInterrupt, "terminate": AssertionError}[end]

    monkeypatch.setattr(exporting, "publish", stop)
    expected = {"error": OSError, "interrupt": KeyboardInterrupt, "terminate": SystemExit}[end]
    with pytest.raises(expected):
        small(tmp_path / "new" / "model")
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    (tmp_path / "kept").mkdir()
    with pytest.raises(expected):
        small(tmp_path / "kept")
    assert os.listdir(tmp_path / "kept") == []


def test_functional_models_answer_by_name():
    """A tokenizer before the model, and half precision widened behind it."""
    answer = ask("classifier", source=TEXTS)
    wanted = model("classifier")(letters.tokenize(TEXTS))
    for name in ("classes", "vector"):
        assert answer[name].dtype == np.float32
        np.testing.assert_allclose(answer[name], tf.cast(wanted[name], "float32"), atol=1e-2)


@pytest.mark.slow
def test_inputs_and_outputs_keep_their_names(tmp_path):
    a, b = keras.Input((3,), name="a"), keras.Input((None,), dtype="int32", name="b")
    summed = keras.layers.Dense(1, name="summed")(a)
    count = keras.layers.Lambda(lambda x: ops.sum(x, axis=1, keepdims=True), name="count")(b)
    warmup = [{"a": [1, 2, 3], "b": [4, 5]}, {"b": [], "a": [0] * 3}]
    with pytest.warns(UserWarning, match="`model` has inputs `b` with a free size after the first axis: a server with"):
        path = serving.export(keras.Model([a, b], [summed, count]), tmp_path, warmup=warmup)
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    found = signature(a=tf.ones((2, 3)), b=tf.constant([[1, 2], [3, 4]]))
    assert found["count"].numpy().tolist() == [[3], [7]] and found["summed"].shape == (2, 1)
    assert serving.check(path).ok


def test_texts_fill_inputs_of_a_fixed_length(tmp_path):
    inputs = keras.Input((4,), dtype="int32", name="ids")
    ids = keras.layers.Lambda(lambda x: x * 1, name="seen")(inputs)
    path = serving.export(keras.Model(inputs, ids), tmp_path, letters)
    found = tf.saved_model.load(str(path)).signatures["serving_default"](source=tf.constant(["abcdefg", "a"]))
    assert found["seen"].numpy().tolist() == [[4, 5, 6, 7], [4, 2, 0, 0]]


@pytest.mark.slow
def test_causal_models_have_one_language(tmp_path):
    path = serving.export(model("causal"), tmp_path, letters, max_length=3, processors=[decoding.BannedTokens([2])])
    signatures = tf.saved_model.load(str(path)).signatures
    found = signatures["serving_default"](source=tf.constant(["ab", ""]))["target"].numpy()
    assert [len(text.decode()) for text in found] == [3, 3]
    assert "encode" not in signatures


def learned():
    """A model that reads and writes 16 positions at most."""
    sizes = {"num_layers": 1, "size": 8, "num_heads": 2, "hidden_size": 8}
    return models.Transformer(letters.vocabulary_size, 20, position=ka.Learned(16), **sizes)


def named(name):
    inputs = keras.Input((3,), name=name)
    return keras.Model({name: inputs}, keras.layers.Dense(2)(inputs))


def nested_outputs():
    inputs = keras.Input((3,), name="x")
    outputs = keras.layers.Dense(2)(inputs)
    return keras.Model(inputs, {"a": outputs, "b": [outputs, outputs]})


UNBUILT = keras.Sequential([keras.layers.Dense(2)])
BAD = [
    (lambda d: serving.export(object(), d), "must have `init_state` and `step`.*or be a functional keras.Model"),
    (lambda d: serving.export(UNBUILT, d), "or be a functional keras.Model. Received: model of type Sequential"),
    (lambda d: small(d, target_text=words), "`target_text` and `generate_xla` are for models with `init_state`"),
    (lambda d: small(d, generate_xla=True), "`target_text` and `generate_xla` are for models with `init_state`"),
    (lambda d: small(d, source_text=letters), r"needs a model with one input of ids, \[B, S\], `keras.*inputs {'x'"),
    (lambda d: small(d, source_text="letters"), "`source_text` must be a Tokenizer of keras_attn or None"),
    (lambda d: small(d, warmup="abc"), "`warmup` must be a list of examples. Received: 'abc'"),
    (lambda d: small(d, warmup=[[1, 2]]), r"must hold float32 of the shape \[3\] for `x`. Received: \[1, 2\]"),
    (lambda d: small(d, warmup=["text"]), r"must hold float32 of the shape \[3\] for `x`. Received: 'text'"),
    (
        lambda d: small(d, warmup=[np.ones(500)]),
        r"must hold float32 of the shape \[3\] for `x`. Received: array.{1,30}$",
    ),
    (lambda d: small(d, warmup=[{"z": 1}]), r"must have the inputs \['x'\]. Received: \['z'\]"),
    (lambda d: small(d, warmup=[[1.0, 2.0, 3.0]] * 1001), "at most 1000 requests. Received: 1001 examples"),
    (lambda d: serving.export(model("rnn"), d, letters, words, warmup=[[4, 2]]), "must hold a string for `source`"),
    (lambda d: serving.export(model("ids"), d, warmup=["text"]), r"must hold int32 of the shape \[None\] for `source`"),
    (lambda d: serving.export(model("ids"), d, letters, letters), "`target_text` must have at most the model's 11 ids"),
    (lambda d: serving.export(model("rnn"), d, text.Words()), "`Words` has no vocabulary yet"),
    (lambda d: serving.export(model("ids"), d, warmup=[[4.5]]), r"must hold int32 of the shape \[None\] for `source`"),
    (
        lambda d: serving.export(learned(), d, max_length=17),
        "`max_length` must be at most the 16 positions of the model",
    ),
    (lambda d: serving.export(named("a b"), d), r"valid names of arguments.*Received: \['a b'\]"),
    (lambda d: serving.export(named("self"), d), r"valid names of arguments.*Received: \['self'\]"),
    (lambda d: serving.export(nested_outputs(), d), r"flat structure of outputs. Received: \['a', 'b'\]"),
    (lambda d: serving.export(model("rnn"), d, max_length=0), "`max_length` must be an integer of at least 1"),
    (lambda d: serving.export(model("rnn"), d, strategy="beam"), "`strategy` must be a Strategy"),
]


@pytest.mark.parametrize(("act", "message"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path, act, message):
    with pytest.raises(ValueError, match=message):
        act(tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_inputs_must_have_a_free_batch(tmp_path):
    inputs = keras.Input(batch_shape=(4, 3), name="x")
    fixed = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match=r"free first axis. Received: fixed ones for \['x'\]"):
        serving.export(fixed, tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_graphs_that_a_server_would_not_run_are_refused(tmp_path):
    class Compiled(keras.layers.Layer):
        def call(self, x):
            return tf.function(lambda x: x + 1, jit_compile=True)(x)

    inputs = keras.Input((3,), name="x")
    with pytest.raises(ValueError, match="TF Serving would not run this model: serving_default: holds a function"):
        serving.export(keras.Model(inputs, Compiled()(inputs)), tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_the_extra_is_named_when_it_is_missing(tmp_path, monkeypatch):
    for name in ("tensorflow_serving.apis", "tensorflow_serving.apis.prediction_log_pb2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "keras-attn\[serving\]"'):
        small(tmp_path / "model", warmup=[[1.0, 2.0, 3.0]])
    assert os.listdir(tmp_path) == []
    assert small(tmp_path).name == "1", "without examples nothing is wanted"


def test_models_reloaded_from_keras_files_answer_the_same(tmp_path):
    model("rnn").save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    path = serving.export(again, tmp_path / "served", letters, words, max_length=L)
    found = tf.saved_model.load(str(path)).signatures["serving_default"](source=tf.constant(TEXTS))
    assert [text.decode() for text in found["target"].numpy()] == ask("rnn", source=TEXTS)["target"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [None, Int8QuantizationConfig(activation_quantizer=None)], ids=["all", "weights"])
def test_models_of_integers_answer_the_same(tmp_path, settings):
    """After `quantize`: what is exported, and what a `.keras` file holds, is what the quantised model says."""
    quantised = models.Transformer(20, 11, num_layers=1, size=16, num_heads=2, hidden_size=16, residual=ka.PreNorm())
    quantised.quantize("int8", config=settings)
    quantised.save(tmp_path / "model.keras")
    inputs = {"source": np.array([[5, 6, 2]]), "target": np.array([[1, 4]])}
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(inputs), quantised(inputs))
    path = serving.export(quantised, tmp_path / "served", max_length=L, warmup=[[5, 6, 2]])
    source = np.array([[5, 6, 7, 2], [9, 2, 0, 0]], "int32")
    found = tf.saved_model.load(str(path)).signatures["serving_default"](source=tf.constant(source))
    wanted = quantised.generate(source, max_length=L)
    np.testing.assert_array_equal(found["target"], ops.convert_to_numpy(wanted.tokens)[:, 0])


@pytest.mark.slow
def test_every_signature_works_on_the_command_line_of_tensorflow(tmp_path):
    cli = pytest.importorskip("tensorflow.python.tools.saved_model_cli")
    asked = {
        "serving_default": "source=[b'abc',b'']",
        "score": "source=[b'abc',b''];target=[b'AA',b'B B']",
        "encode": "source=[b'abc',b'']",
        "generate": "source=[[4,5,2],[6,2,0]];max_length=[3,9];temperature=[0.0,0.0]",
    }
    shown = subprocess.run(
        [
            shutil.which("saved_model_cli", path=os.path.dirname(sys.executable)),
            "show",
            "--dir",
            str(folder("rnn")),
            "--all",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    for name, inputs in asked.items():
        assert f"signature_def['{name}']" in shown.stdout
        feed = cli.load_inputs_from_input_arg_string("", inputs, "")
        cli.run_saved_model_with_feed_dict(str(folder("rnn")), "serve", name, feed, str(tmp_path / name), False)
        assert os.listdir(tmp_path / name)
    answer = ask("rnn", "score", source=["abc", ""], target=["AA", "B B"])
    np.testing.assert_allclose(np.load(tmp_path / "score" / "log_probability.npy"), answer["log_probability"])


def test_user_models_are_tracked(tmp_path):
    """The variables of any trackable model go along."""
    steps = Steps()
    path = serving.export(steps, tmp_path, max_length=3)
    ids = tf.constant([[5, 2]])
    first, second = (
        m["serving_default"](source=ids)["score"].numpy()
        for m in (tf.saved_model.load(str(path)).signatures, {"serving_default": lambda source: scored(steps, source)})
    )
    np.testing.assert_allclose(first, second, rtol=1e-5)


def scored(steps, source):
    found = decoding.generate(steps, source, max_length=3)
    return {"score": found.scores[:, 0]}


def test_what_is_written_can_be_read_as_json():
    """Every output of every signature, as TF Serving's REST handler writes it."""
    for signature in ("serving_default", "encode"):
        for array in ask("rnn", signature, source=TEXTS[:2]).values():
            assert json.loads(json.dumps(array.tolist())) == array.tolist()


def test_outputs_of_one_layer_are_numbered(tmp_path):
    inputs = keras.Input((None, 8), name="x")
    outputs = ka.MultiHeadSelfAttention(2, name="att")(inputs, return_attention_scores=True)
    with pytest.warns(UserWarning, match="inputs `x` with a free size"):
        path = serving.export(keras.Model(inputs, list(outputs)), tmp_path)
    found = tf.saved_model.load(str(path)).signatures["serving_default"](x=tf.ones((3, 5, 8)))
    assert found["att"].shape == (3, 5, 8) and found["att_1"].shape == (3, 2, 5, 5)


def test_sequential_models_are_functional_too(tmp_path):
    chain = keras.Sequential([keras.Input((None,), dtype="int32", name="ids"), keras.layers.Embedding(20, 3, name="e")])
    for number, (source_text, fed) in enumerate([(letters, {"source": ["a"]}), (None, {"ids": [[4, 2]]})], start=1):
        with contextlib.nullcontext() if source_text else pytest.warns(UserWarning, match="inputs `ids` with a free"):
            path = serving.export(chain, tmp_path, source_text)
        found = tf.saved_model.load(str(path)).signatures["serving_default"](
            **{name: tf.constant(value) for name, value in fed.items()}
        )
        assert path.name == str(number)
        np.testing.assert_allclose(found["e"], chain(np.array([[4, 2]])))


class PlainSteps:
    """A user's model that is no Keras model: it holds layers and a table, and has an `encode` of its own."""

    def __init__(self):
        self.embedding = keras.layers.Embedding(9, 9, embeddings_initializer="random_normal")
        self.lookup = keras.layers.StringLookup(vocabulary=["a", "b"])
        self.note = "not trackable"

    def encode(self, anything):
        return self.embedding(anything)

    def init_state(self, source, max_length):
        return {"first": self.lookup(tf.strings.as_string(source[:, 0]))}

    def step(self, tokens, state, index):
        return 9 * self.embedding(tokens) + ops.cast(state["first"], "float32")[:, None], state


def test_plain_objects_with_steps_are_exported(tmp_path):
    steps = PlainSteps()
    wanted = decoding.generate(steps, tf.constant([[5, 2]]), max_length=4)  # builds its layers
    path = serving.export(steps, tmp_path, max_length=4)
    signatures = tf.saved_model.load(str(path)).signatures
    assert "encode" not in signatures, "what it takes and gives is the user's own affair"
    found = signatures["serving_default"](source=tf.constant([[5, 2]]))
    np.testing.assert_array_equal(found["target"], wanted.tokens[:, 0])


def test_learned_positions_bound_what_is_read(tmp_path):
    """A text beyond them is cut, and its neighbours get their answers."""
    bounded = learned()
    path = serving.export(bounded, tmp_path, letters, max_length=16)
    signatures = tf.saved_model.load(str(path)).signatures
    texts = ["abc", "abcdefghij" * 9]
    found = signatures["serving_default"](source=tf.constant(texts))["target"]
    cut = letters.tokenize(texts)[:, :16]
    np.testing.assert_array_equal(found, bounded.generate(cut, max_length=16).tokens[:, 0])
    target = tf.tile([[5, 6]], (2, 20))  # one id alone, 40 times, could be what a server filled in
    scored = signatures["score"](source=tf.constant(texts), target=target)
    assert scored["target_length"].numpy().tolist() == [16, 16]
