"""`check` and the console command: whole runs against sound and broken SavedModels, and TF Serving's C++ loader."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import models, serving, text
from keras_attn.serving import command
from keras_attn.serving.warmup import FILE, Request, log_of, read_warmup
from tests.serving.exports import ARGUMENTS, TEXTS, ask, folder
from tests.serving.loader import ask as ask_loader
from tests.serving.loader import check_in_loader

pytestmark = pytest.mark.tensorflow


@pytest.mark.slow
def test_a_sound_model_can_be_served():
    report = serving.check(folder("transformer").parent)
    assert report.ok and report.folder == folder("transformer")
    assert str(report).splitlines()[0].endswith("1: can be served")
    assert "ok    loads with XLA off and answers its 9 warm-up requests" in str(report)
    assert "ok    a server cannot fill short rows, or the model ignores the filler" in str(report)
    assert "ok    answers do not depend on a server's batching" in str(report)


@pytest.mark.slow
def test_other_answers_than_at_the_export_are_found(tmp_path):
    path = shutil.copytree(folder("rnn"), tmp_path / "1")
    answers = list(read_warmup(path))
    answers[0][1]["target"][0] += b"!"
    answers[5][1]["score"][1] += 0.01
    with tf.io.TFRecordWriter(str(path / FILE)) as writer:
        for request, answer in answers:
            writer.write(log_of("rnn", request, answer).SerializeToString())
    report = serving.check(tmp_path)
    assert not report.ok
    assert "FAIL  loads with XLA off and answers its 9 warm-up requests" in str(report)
    assert "request 1 (serving_default): `target` differs" in str(report)
    assert "request 6 (serving_default): `score` differs by 1.0e-02" in str(report)
    assert str(report).count("differs") == 2


def test_models_that_do_not_load_are_found(tmp_path):
    path = shutil.copytree(folder("classifier"), tmp_path / "1")
    data = next((path / "variables").glob("*.data*"))
    data.write_bytes(data.read_bytes()[:100])
    report = serving.check(path)
    assert not report.ok and "FAIL  loads with XLA off" in str(report)
    with pytest.raises(ValueError, match="`path` must be a SavedModel or a folder of numbered versions"):
        serving.check(tmp_path / "nothing")


def test_models_that_need_xla_are_found_by_rule_and_by_run(tmp_path):
    module = tf.Module()
    signature = tf.function(
        lambda x: {"y": x + 1}, input_signature=[tf.TensorSpec((None,), "float32", "x")], jit_compile=True
    )
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": signature})
    request = Request("serving_default", {"x": np.ones(2, "float32")})
    (tmp_path / "1" / FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / "1" / FILE)) as writer:
        writer.write(log_of("model", request, {"y": np.full(2, 2, "float32")}).SerializeToString())
    report = str(serving.check(tmp_path))
    assert "holds a function with jit_compile=True" in report
    assert "XLA compilation disabled" in report


def test_answers_that_depend_on_batching_are_found(tmp_path):
    """A signature that reads its neighbours, and one of ids that reads what a server fills in."""

    def centred(x):
        return {"y": x - tf.reduce_mean(x, axis=0)}

    def generate(source, max_length, temperature):
        return {"tokens": tf.reduce_sum(source, axis=1) + max_length, "scores": temperature}

    rows = [
        tf.TensorSpec((None,), dtype, name) for dtype, name in (("int32", "max_length"), ("float32", "temperature"))
    ]
    signatures = {
        "serving_default": tf.function(centred, [tf.TensorSpec((None, 2), "float32", "x")]),
        "generate": tf.function(generate, [tf.TensorSpec((None, None), "int32", "source"), *rows]),
    }
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"), signatures=signatures)
    ids = {"source": np.array([[4, 5], [6, 7]], "int32"), "max_length": np.zeros(2, "int32")}
    logs = [
        (Request("serving_default", {"x": np.ones((1, 2), "float32")}), {"y": np.zeros((1, 2), "float32")}),
        (Request("serving_default", {"x": np.zeros((1, 2), "float32")}), {"y": np.zeros((1, 2), "float32")}),
        (Request("generate", ids | {"temperature": np.zeros(2, "float32")}), {"tokens": np.array([9, 13], "int32")}),
    ]
    (tmp_path / "1" / FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / "1" / FILE)) as writer:
        for request, answer in logs:
            writer.write(log_of("model", request, answer).SerializeToString())
    report = serving.check(tmp_path)
    assert not report.ok
    assert str(report).split("FAIL  answers do not depend on a server's batching\n")[1].split("\n") == [
        "        serving_default, rows merged: row 1: `y` differs by 5.0e-01",
        "        serving_default, rows merged: row 2: `y` differs by 5.0e-01",
        "        generate: short rows filled and merged: row 1: `tokens` differs",
        "        generate: short rows filled and merged: row 2: `tokens` differs",
    ]


def test_no_answer_in_time(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).export(str(tmp_path / "1"), verbose=False)
    report = serving.check(tmp_path, timeout=0.01)
    assert not report.ok and "no answer within 0.01 s" in str(report)


@pytest.mark.slow
def test_warmup_is_in_the_format_of_tf_serving():
    """Parsed with TF Serving's own protocol buffers: what is asked, of whom, and the answers."""
    api = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    logs = [
        api.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(folder("transformer") / "assets.extra/tf_serving_warmup_requests"))
    ]
    requests = [log.predict_log.request for log in logs]
    assert {request.model_spec.name for request in requests} == {"transformer"}
    signatures = [request.model_spec.signature_name for request in requests]
    assert signatures == ["serving_default"] * 6 + ["generate", "score", "encode"]
    assert [tf.make_ndarray(request.inputs["source"]).tolist() for request in requests[:5]] == [
        [text.encode()] for text in TEXTS
    ]
    for log in logs[:5]:
        [source] = tf.make_ndarray(log.predict_log.request.inputs["source"]).tolist()
        [target] = tf.make_ndarray(log.predict_log.response.outputs["target"]).tolist()
        assert target.decode() == ask("transformer", source=[source])["target"][0]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_loader_of_tf_serving_answers_the_same(name):
    """In C++, XLA off: every warm-up request of every export."""
    assert check_in_loader(folder(name)) == len(list(read_warmup(folder(name)))) >= 3


def test_the_loader_of_tf_serving_answers_many_rows_as_one(tmp_path):
    odd = ["", "a", b"a\xff\xfeb", "j" * 10_000, "日本語"]
    requests = [Request("serving_default", {"source": np.array([text], object)}) for text in odd]
    *alone, together, twin = ask_loader(
        folder("transformer"),
        [
            *requests,
            Request("serving_default", {"source": np.array(odd, object)}),
            Request("generate_xla", {"source": [[4, 2]], "max_length": [3], "temperature": np.zeros(1, "float32")}),
        ],
    )
    for row, answer in enumerate(alone):
        assert answer["target"][0] == together["target"][row]
        np.testing.assert_allclose(answer["score"][0], together["score"][row], rtol=1e-5, atol=1e-5)
    assert b"XLA compilation disabled" in twin["error"].item(), "as a server says that was not started for it"


def run(capsys, *arguments):
    """Runs the console command; returns its status, what it printed, and what it complained of."""
    status = command.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.fixture
def no_xla_switch(monkeypatch):
    """The switch is for good, and other tests of this process need XLA."""
    monkeypatch.setattr(command, "switch_xla_off", lambda: None)


@pytest.mark.usefixtures("no_xla_switch")
def test_the_command_inspects_asks_and_times(capsys):
    status, printed, _ = run(capsys, "inspect", folder("rnn").parent)
    assert status == 0 and "9 warm-up requests" in printed and "assets/" in printed
    for name in ("serving_default", "generate", "score", "encode", "attention_scores", "temperature"):
        assert f" {name}" in printed
    status, printed, _ = run(capsys, "predict", folder("rnn"), "abc", "")
    rows = [json.loads(line) for line in printed.splitlines()]
    assert status == 0 and [row["target"] for row in rows] == ask("rnn", source=["abc", ""])["target"].tolist()
    row = '{"source": "abc", "target": "AA"}'
    status, printed, _ = run(capsys, "predict", folder("rnn"), row, "--signature", "score")
    assert status == 0 and json.loads(printed)["target_length"] == 2
    status, printed, _ = run(capsys, "predict", folder("ids"), "[4, 5, 2]")
    assert status == 0 and len(json.loads(printed)["target"]) == 7
    bench = ("bench", folder("rnn"), "--seconds", 0.01, "--batch-sizes", 1, 4)
    for arguments in (bench, (*bench, "--text", "abc"), ("bench", folder("ids"), "--seconds", 0.01)):
        status, printed, _ = run(capsys, *arguments)
        lines = printed.splitlines()
        assert status == 0 and lines[0].split() == ["rows", "rows/s", "median", "ms", "99%", "ms"]
        assert all(float(number.replace(",", "")) > 0 for line in lines[1:] for number in line.split())


@pytest.mark.usefixtures("no_xla_switch")
def test_the_command_tells_what_is_wrong(capsys, tmp_path):
    assert run(capsys, "check", tmp_path)[::2] == (
        2,
        f"keras-attn: `path` must be a SavedModel or a folder of numbered versions. Received: path='{tmp_path}'.\n",
    )
    for arguments, message in (
        (("predict", folder("rnn"), "x", "--signature", "nope"), "`--signature` must be one of ['encode', "),
        (("predict", folder("ids"), "no json"), "A row must be JSON for the inputs ['source']"),
        (("predict", folder("rnn"), "{}", "--signature", "score"), "must have the inputs ['source', 'target']"),
        (("predict", folder("ids"), "4"), "`source` must be int32 of shape (None, None). Received: shape (1,)"),
        (
            ("predict", folder("ids"), "[[4]]"),
            "`source` must be int32 of shape (None, None). Received: shape (1, 1, 1)",
        ),
        (("predict", folder("ids"), "[4]", "[4, 2]"), "Received: rows of different lengths"),
        (("predict", folder("ids"), "[]"), "Received: rows without elements"),
        (("predict", folder("ids"), '["a"]'), "`source` must be int32 of shape (None, None). Received: <U1"),
        (("bench", folder("ids"), "--text", "[[4]]"), "`source` must be int32 of shape (None, None). Received: shape"),
    ):
        status, _, complaint = run(capsys, *arguments)
        assert status == 2 and message in complaint
    for arguments in ([], ["bench", str(folder("rnn")), "--batch-sizes", "0"]):
        with pytest.raises(SystemExit):
            command.main(arguments)


@pytest.mark.slow
def test_the_command_checks(capsys, tmp_path):
    status, printed, _ = run(capsys, "check", folder("classifier"))
    assert status == 0 and "can be served" in printed
    shutil.copytree(folder("classifier"), tmp_path / "1")
    shutil.rmtree(tmp_path / "1" / "assets")
    status, printed, _ = run(capsys, "check", tmp_path)
    assert status == 1 and "CANNOT be served" in printed


@pytest.mark.slow
def test_subwords_are_read_by_the_loader_of_tf_serving(tmp_path):
    """With the ops of TF Text, which the server links."""
    pytest.importorskip("tensorflow_text")
    pytest.importorskip("sentencepiece")
    subwords = text.SentencePiece()
    subwords.adapt(["the cat sat on the mat", "a cat and a rat", "that is that"] * 9, vocabulary_size=30)
    size = subwords.vocabulary_size
    model = models.RNNSeq2Seq(size, size, size=8)
    path = serving.export(model, tmp_path, subwords, subwords, max_length=5, warmup=["a cat", "", "cat?"])
    assert serving.check(path).ok
    assert check_in_loader(path) == 3 + 4
