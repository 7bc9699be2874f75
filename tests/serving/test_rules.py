"""The rules that can be checked without running a model: each broken on purpose."""

import shutil

import pytest
import tensorflow as tf
from keras import ops
from tensorflow.core.protobuf import saved_model_pb2

from keras_attn.serving.rules import draws, findings
from tests.serving.exports import ARGUMENTS, folder, letters

pytestmark = pytest.mark.tensorflow


def saved(directory, function, *specs, **named):
    """Writes a SavedModel whose only signature is a function."""
    module = tf.Module()
    signature = tf.function(function, input_signature=specs, autograph=False, **named)
    tf.saved_model.save(module, str(directory), signatures={"serving_default": signature})
    return directory


def free(tensor):
    """Returns a tensor whose first axis is not known to be fixed."""
    return tf.boolean_mask(tensor, tf.ones(tf.shape(tensor)[:1], "bool"))


def problems(path):
    return [problem for finding in findings(path) for problem in finding.problems]


ROWS = tf.TensorSpec((None, 3), "float32", "x")
BROKEN = {
    "a scalar": ((lambda x: {"y": free(x[None])}, tf.TensorSpec((), "float32", "x")), r"input `x` has the shape \[\]"),
    "a fixed batch": (
        (lambda x: {"y": free(x)}, tf.TensorSpec((2, 3), "float32", "x")),
        r"input `x` has the shape \[2, 3\]",
    ),
    "a sum": ((lambda x: {"y": tf.reduce_sum(x)}, ROWS), r"output `y` has the shape \[\], its first axis must be free"),
    "half": ((lambda x: {"y": tf.cast(x, "bfloat16")}, ROWS), "output `y` is bfloat16, which cannot be written"),
    "python": (
        (lambda x: {"y": tf.ensure_shape(tf.py_function(lambda v: v, [x], "float32"), (None, 3))}, ROWS),
        "`EagerPyFunc` runs Python",
    ),
    "an op for XLA": (
        (lambda x: {"y": ops.slice_update(x, [0, 0], x[:1])}, ROWS),
        "serving_default: uses XlaDynamicUpdateSlice",
    ),
    "inside of a loop": (
        (
            lambda x: {
                "y": tf.while_loop(
                    lambda i, _: i < 2, lambda i, x: (i + 1, ops.slice_update(x, [0, 0], x[:1])), (0, x)
                )[1]
            },
            ROWS,
        ),
        "serving_default: uses XlaDynamicUpdateSlice",
    ),
}


@pytest.mark.parametrize(("made", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_rules_are_named(tmp_path, made, message):
    found = problems(saved(tmp_path, *made))
    assert len(found) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(found[0])


def test_functions_compiled_by_xla_are_found_inside_of_others(tmp_path):
    inner = tf.function(lambda x: x + 1, jit_compile=True)
    assert problems(saved(tmp_path, lambda x: {"y": tf.function(inner)(x)}, ROWS)) == [
        "serving_default: holds a function with jit_compile=True"
    ]


def test_a_model_as_it_should_be_breaks_none(tmp_path):
    assert problems(saved(tmp_path, lambda x: {"y": tf.strings.as_string(x), "z": tf.math.is_nan(x)}, ROWS)) == []


@pytest.mark.parametrize("name", ARGUMENTS)
def test_our_exports_break_none(name):
    assert problems(folder(name)) == []


def test_twins_for_xla_are_left_out():
    """The same signature under the name of a default one is found."""
    path = folder("transformer")
    assert "jit_compile" not in str(problems(path))
    saved_model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    signatures = saved_model.meta_graphs[0].signature_def
    assert "generate_xla" in signatures
    signatures["generate"].CopyFrom(signatures["generate_xla"])
    copy = path.parent / "renamed"
    shutil.copytree(path, copy)
    (copy / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    assert problems(copy) == ["generate: holds a function with jit_compile=True"]


def test_signatures_that_draw_are_told_from_others():
    """Their answers depend on the row's place in a batch, also with a seed."""
    for name, wanted in (("causal", True), ("rnn", False)):
        [graph] = saved_model_pb2.SavedModel.FromString((folder(name) / "saved_model.pb").read_bytes()).meta_graphs
        assert draws(graph, "serving_default") == draws(graph, "generate") == wanted


def test_inputs_that_a_server_may_fill_are_noted(tmp_path):
    """Only by the signature's shapes: a size that is free after the first axis."""
    for number, (shape, noted) in enumerate([((None, None), True), ((None, 3, None), True), ((None, 3), False)]):
        spec = tf.TensorSpec(shape, "float32", "x")
        [*_, finding] = findings(saved(tmp_path / str(number), lambda x: {"y": x}, spec))
        assert not finding.problems
        assert [note.split(":")[0] for note in finding.notes] == ["serving_default"] * noted
        assert all("`x` with a free size after the first axis" in note for note in finding.notes)
    for name in ("ids", "rnn", "causal", "classifier"):
        assert findings(folder(name))[-1].notes == []


def test_missing_files_are_named(tmp_path):
    shutil.copytree(folder("rnn"), tmp_path / "1")
    removed = [*(tmp_path / "1" / "assets").iterdir(), tmp_path / "1" / "variables" / "variables.index"]
    for path in removed:
        path.unlink()
    assert sorted(problems(tmp_path / "1")) == sorted(f"{path} is missing" for path in removed)
    assert len(removed) > 2
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no protocol buffer")
    assert "saved_model.pb" in problems(tmp_path / "1")[0]
    assert "No such file" in problems(tmp_path / "2")[0]


def test_ops_of_tf_text_are_linked_and_others_are_not(tmp_path):
    """A server links TF Text; an op that neither knows is named."""
    text = pytest.importorskip("tensorflow_text")
    split = text.WhitespaceTokenizer()
    path = saved(tmp_path / "text", lambda x: {"y": split.split(x).to_tensor()}, tf.TensorSpec((None,), "string", "x"))
    assert problems(path) == []
    written = (path / "saved_model.pb").read_bytes()
    op = b"TFText>WhitespaceTokenizeWithOffsetsV2"
    assert op in written
    (path / "saved_model.pb").write_bytes(written.replace(op, b"MyText" + op[6:]))
    assert "is an op of neither TensorFlow nor TF Text" in problems(path)[0]


def test_a_vocabulary_travels_as_an_asset():
    assert sorted(path.name for path in (folder("causal") / "assets").iterdir()) == [letters.asset_name]
