"""Figures: what is on them, tokens of every script without a warning, sizes; and images for TensorBoard."""

import gc
import sys
import warnings
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import models, plot, text
from keras_attn.plot import fonts

pytest.importorskip("matplotlib")

pytestmark = pytest.mark.tensorflow

T, S = 3, 5
SCRIPTS = [
    "Ωμέγα",
    "привет",
    "שלום",
    "سلام",
    "中文",
    "かな",
    "हिन्दी",
    "ไทย",
    "😀",
    "e\u0301",
    "zero\u200dwidth",
    "\ud800",
    "\U0010ffff",
]


@pytest.fixture
def scores(rng):
    scores = rng.uniform(size=(2, T, S)).astype("float32")
    return scores / scores.sum(axis=-1, keepdims=True)


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def draw(figure):
    """Draws a figure as a file would have it, warnings being errors."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def panels(figure):
    return [panel for panel in figure.axes if panel.images]


def test_one_head(scores):
    figure = plot.heat_map(scores[0], list("abcde"), list("xyz"), title="a title")
    (panel,) = panels(figure)
    np.testing.assert_array_equal(panel.images[0].get_array(), scores[0])
    assert panel.images[0].get_clim() == (0, 1)
    assert labels(panel.xaxis) == list("abcde") and labels(panel.yaxis) == list("xyz")
    assert figure.get_suptitle() == "a title" and panel.get_title() == ""
    assert len(figure.axes) == 2  # and a colour bar
    assert draw(figure)[..., :3].std() > 0


@pytest.mark.parametrize(("num_heads", "grid"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (8, (3, 3))])
def test_many_heads_in_a_grid(num_heads, grid, rng):
    scores = rng.uniform(size=(num_heads, T, S)).astype("float32")
    figure = plot.heat_map(ops.convert_to_tensor(scores), list("abcde"), list("xyz"))
    drawn = panels(figure)
    assert [panel.get_title() for panel in drawn] == [f"head {n + 1}" for n in range(num_heads)]
    assert drawn[0].get_gridspec().get_geometry() == grid
    for panel, wanted in zip(drawn, scores, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), wanted)
        assert panel.images[0].get_clim() == (0, 1)
    assert len(figure.axes) == num_heads + 1
    draw(figure)
    shown = [any(label.get_visible() and label.get_text() for label in panel.get_xticklabels()) for panel in drawn]
    assert shown == [n + grid[1] >= num_heads for n in range(num_heads)]


def test_positions_where_there_are_no_tokens(scores):
    (panel,) = panels(figure := plot.heat_map(scores[0]))
    draw(figure)
    assert {float(tick) for tick in panel.get_xticks()} >= set(range(S))


def test_low_precision_scores(scores):
    tensor = ops.cast(ops.convert_to_tensor(scores), "bfloat16")
    draw(figure := plot.heat_map(tensor))
    drawn = panels(figure)[0].images[0].get_array()
    np.testing.assert_allclose(drawn, scores[0], atol=1e-2)
    draw(plot.alignment(tensor[0], list("abcde"), list("xyz")))


@pytest.mark.parametrize("text", SCRIPTS)
def test_tokens_of_any_script(text):
    script = fonts.Script([text])
    shown = {character for character in script.texts[0] if character != fonts.REPLACEMENT}
    assert shown <= set(text)
    assert all(any(ord(c) in fonts.characters(name) for name in script.style["fontfamily"]) for c in script.texts[0])
    draw(plot.heat_map(np.eye(2), [text, "a"], ["b", text], title=text))
    draw(plot.alignment(np.eye(2), [text, "a"], ["b", text], title=text))


def test_what_can_be_drawn_is_left_alone_and_the_rest_is_marked():
    assert fonts.Script(["Ωμέγα", "привет", "$5 and $6", r"\frac"]).texts == ["Ωμέγα", "привет", "$5 and $6", r"\frac"]
    assert fonts.Script(["a\nb\tc", "\U0010ffff"]).texts == ["a\ufffdb\ufffdc", "\ufffd"]
    assert fonts.drawable("\u2060", None) == ""  # invisible anyway
    assert fonts.Script(["x" * 25, "x" * 24]).texts == ["x" * 23 + "…", "x" * 24]
    draw(plot.heat_map(np.eye(2), ["$5", "$_"], [r"$\frac$", "$$"], title="$x_$"))


def test_a_font_is_found_for_what_the_default_lacks(monkeypatch):
    monkeypatch.setattr(fonts, "font_files", lambda: {"default": "", "other": "", "third": ""})
    monkeypatch.setattr(fonts, "default_font", lambda: "default")
    monkeypatch.setattr(fonts, "characters", {"default": {97}, "other": {97, 20013}, "third": {20013}}.get)
    fonts.font_of.cache_clear()
    script = fonts.Script(["a中文"])
    fonts.font_of.cache_clear()
    assert script.texts == ["a中\ufffd"] and script.style["fontfamily"] == ["default", "other"]


def test_sizes_grow_with_tokens_up_to_a_bound(rng):
    sizes = []
    for size in (2, 20, 40, 400):
        figure = plot.heat_map(rng.uniform(size=(size, size)), [f"w{i}" for i in range(size)], ["x"] * size)
        sizes.append(tuple(figure.get_size_inches()))
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3] and max(sizes[3]) < 20
    shown = labels(panels(figure)[0].xaxis)
    every = int(shown[1][1:])  # as many as fit
    assert every > 1 and shown == [f"w{i}" for i in range(0, 400, every)]
    many = plot.heat_map(rng.uniform(size=(64, 30, 30)))
    assert max(many.get_size_inches()) <= 30
    assert max(plot.alignment(np.eye(400), ["a"] * 400, ["b"] * 400).get_size_inches()) <= 30


def test_alignment(scores):
    weak = np.maximum(scores[0], 0.1)
    weak[0, 1] = 0.001
    figure = plot.alignment(weak, ["a", "b", "c", "d", "e"], ["x", "y", "z"], title="a title")
    (panel,) = figure.axes
    (lines,) = panel.collections
    drawn = [(t, s) for t in range(T) for s in range(S) if (t, s) != (0, 1)]
    assert len(lines.get_segments()) == len(drawn)
    strengths = [weak[place] for place in drawn]
    np.testing.assert_allclose(lines.get_colors()[:, 3], strengths)
    assert np.corrcoef(lines.get_linewidths(), strengths)[0, 1] == pytest.approx(1)
    places = {text.get_text(): text.get_position() for text in panel.texts}
    for (t, s), ((x0, y0), (x1, y1)) in zip(drawn, lines.get_segments(), strict=True):
        assert y0 == places["abcde"[s]][1] and y1 == places["xyz"[t]][1]
        assert places["abcde"[s]][0] < x0 < x1 < places["xyz"[t]][0]
    assert figure.get_suptitle() == "a title"
    draw(figure)
    draw(plot.alignment(np.zeros((T, S)), list("abcde"), list("xyz")))  # no line at all


def test_pyplot_knows_of_no_figure_and_none_is_kept(scores):
    figures = [plot.heat_map(scores), plot.alignment(scores[0], list("abcde"), list("xyz"))]
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
    references = [weakref.ref(figure) for figure in figures]
    figures.clear()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_bad_arguments_are_named(scores):
    with pytest.raises(
        ValueError, match=r"`scores` must have 3 axes, \[H, T, S\]. Received: scores.shape=\(1, 2, 3, 5\)"
    ):
        plot.heat_map(scores[None])
    with pytest.raises(ValueError, match=r"`scores` must have 2 axes, \[T, S\]"):
        plot.alignment(scores, list("abcde"), list("xyz"))
    with pytest.raises(
        ValueError, match="`source_tokens` must be as many as the scores' axis S, 5. Received: 2 tokens"
    ):
        plot.heat_map(scores, ["a", "b"])
    with pytest.raises(
        ValueError, match="`target_tokens` must be as many as the scores' axis T, 3. Received: 1 tokens"
    ):
        plot.alignment(scores[0], list("abcde"), ["a"])
    with pytest.raises(ValueError, match=r"`scores` must not be empty. Received: scores.shape=\(1, 0, 5\)"):
        plot.heat_map(np.zeros((0, 5)))


def test_without_matplotlib(scores, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "keras-attn\[plot\]"'):
        plot.heat_map(scores)


SOURCE, TARGET = np.array([[5, 6, 2, 0], [7, 2, 0, 0]], "int32"), np.array([[1, 7, 8], [1, 7, 0]], "int32")
TOKENS = [["good", "day", "end"], ["x", "end"]], [["start", "guten", "Tag"], ["start", "y"]]


def images(folder):
    """The images in a folder of TensorBoard's, by name and step: pixels `[height, width, 4]`."""
    import tensorflow as tf

    found = {}
    for path in folder.iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "images"
                width, height, png = value.tensor.string_val
                found[value.tag, event.step] = pixels = tf.image.decode_png(png).numpy()
                assert pixels.shape == (int(height), int(width), 4)
    return found


class Attending(keras.Model):
    """A model of two blocks and heads, of which only the attention is there."""

    def attention_scores(self, source, target):
        shape = (2, 2, 2, target.shape[1], source.shape[1])
        return ops.convert_to_tensor(np.random.default_rng(7).uniform(size=shape).astype("float32"))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: models.RNNSeq2Seq(11, 13, size=2), ["attention_0", "attention_1"]),
        (Attending, [f"attention_{row}/block_{n}" for row in (0, 1) for n in (1, 2)]),
    ],
    ids=["rnn", "transformer"],
)
def test_attention_maps_while_training(make, names, tmp_path):
    pytest.importorskip("tensorflow")
    model = make()
    maps = plot.AttentionMaps(tmp_path, SOURCE, TARGET, *TOKENS, every=2)
    callbacks = keras.callbacks.CallbackList([maps], model=model)
    callbacks.on_train_begin()
    for epoch in range(5):
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    found = images(tmp_path)
    assert sorted(found) == sorted((name, step) for name in names for step in (1, 3))
    scores = ops.convert_to_numpy(model.attention_scores(SOURCE, TARGET))
    last = scores[1, :2, :2] if scores.ndim == 3 else scores[1, 1, :, :2, :2]  # padding left out
    wanted = draw(plot.heat_map(last, TOKENS[0][1], TOKENS[1][1], title="epoch 4"))
    np.testing.assert_array_equal(found[names[-1], 3], wanted)


@pytest.mark.parametrize("kind", ["rnn", "transformer"])
def test_texts_are_drawn_with_their_tokens(kind):
    letters, words = text.Characters("abcde"), text.Words(["one", "two"])
    sizes = letters.vocabulary_size, words.vocabulary_size
    if kind == "rnn":
        model = models.RNNSeq2Seq(*sizes, size=5)
    else:
        model = models.Transformer(*sizes, num_layers=2, size=6, num_heads=3, hidden_size=7)
    (panel,) = panels(figure := plot.text_attention(model, "dab?", "two one", letters, words))
    source, target = np.array([[7, 4, 5, 3, 2]]), np.array([[1, 5, 4]])
    scores = ops.convert_to_numpy(model.attention_scores(source, target))[0]
    wanted = scores if kind == "rnn" else scores[1].mean(axis=0)
    np.testing.assert_allclose(panel.images[0].get_array(), wanted, atol=1e-6)
    assert labels(panel.xaxis) == ["d", "a", "b", "\ufffd", "end"] and labels(panel.yaxis) == ["two", "one", "end"]
    assert figure.get_suptitle() == "dab?: two one"
    with pytest.raises(ValueError, match=r"`model` must have `attention_scores\(source, target\)`. Received: a Seq"):
        plot.text_attention(keras.Sequential(), "a", "one", letters, words)


def test_what_a_callback_refuses():
    for arguments, message in [
        ((SOURCE[0], TARGET), r"`source` must have 2 axes, \[B, S\]"),
        ((SOURCE, TARGET[:1]), r"`target` must have shape \[B, T\] with B=2 as in `source`"),
        (
            (SOURCE, TARGET, [["a"], ["b"]]),
            r"`source_tokens` must be lists of \[3, 2\] tokens. Received: lists of \[1, 1\]",
        ),
        (
            (SOURCE, TARGET, None, [["a"]]),
            r"`target_tokens` must be lists of \[3, 2\] tokens. Received: lists of \[1\]",
        ),
        (([[5, 2], [0, 0]], TARGET), "`source` must hold integer ids, in each row one that is not padding"),
        ((SOURCE, TARGET + 0.5), "`target` must hold integer ids.* Received: target.dtype=float64"),
        (([[5, 2], [5]], TARGET), "`source` must have rows of one length: .* Received: source of type list"),
    ]:
        with pytest.raises(ValueError, match=message):
            plot.AttentionMaps("logs", *arguments)
    with pytest.raises(ValueError, match="`every` must be an integer of at least 1. Received: every=0"):
        plot.AttentionMaps("logs", SOURCE, TARGET, every=0)
    with pytest.raises(
        ValueError, match=r"`model` must have `attention_scores\(source, target\)`. Received: a Sequential"
    ):
        plot.AttentionMaps("logs", SOURCE, TARGET).set_model(keras.Sequential())


def test_ids_that_a_model_does_not_know_are_refused_before_the_training(tmp_path):
    model = models.RNNSeq2Seq(5, 5, size=4)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = np.ones((1, 2), "int32")
    callback = plot.AttentionMaps(tmp_path, ids + 6, ids)
    with pytest.raises(ValueError, match="`source` must hold ids from 0 to 4"):
        model.fit({"source": ids, "target": ids}, ids, callbacks=[callback], verbose=0)
    assert not list(tmp_path.iterdir())


def test_tokens_as_tokenizers_give_them_back(scores):
    tokens = ["é", "b", "c", "d", "e"]
    for given in ([token.encode() for token in tokens], np.array([token.encode() for token in tokens], object)):
        (panel,) = panels(plot.heat_map(scores[0], given))
        assert [label.get_text() for label in panel.get_xticklabels()] == tokens


def test_a_string_is_its_characters(scores):
    (panel,) = panels(plot.heat_map(scores[0], "abcde"))
    assert [label.get_text() for label in panel.get_xticklabels()] == list("abcde")


def test_a_title_may_have_lines(scores):
    figure = plot.heat_map(scores[0], title="one\ntwo")
    assert figure.get_suptitle() == "one\ntwo"


def test_an_alignment_needs_tokens(scores):
    with pytest.raises(ValueError, match="`target_tokens` must be tokens. Received: None"):
        plot.alignment(scores[0], list("abcde"), None)
