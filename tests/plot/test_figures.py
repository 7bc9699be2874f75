"""Figures: what is drawn, their sizes, and the arguments that are refused."""

import gc
import sys
import weakref

import numpy as np
import pytest
from keras import ops

from keras_attn import plot

from .drawing import S, T, draw, labels, panels

pytestmark = pytest.mark.tensorflow


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
        ValueError,
        match="`source_tokens` must have a token for each of the 5 positions of the scores' axis S. Received: 2 tokens",
    ):
        plot.heat_map(scores, ["a", "b"])
    with pytest.raises(
        ValueError,
        match="`target_tokens` must have a token for each of the 3 positions of the scores' axis T. Received: 1 tokens",
    ):
        plot.alignment(scores[0], list("abcde"), ["a"])
    with pytest.raises(ValueError, match=r"`scores` must not be empty. Received: scores.shape=\(1, 0, 5\)"):
        plot.heat_map(np.zeros((0, 5)))


def test_without_matplotlib(scores, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "keras-attn\[plot\]"'):
        plot.heat_map(scores)


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
