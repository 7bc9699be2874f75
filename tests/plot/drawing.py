"""Functions that draw figures and look at them; the tests of plots are skipped without matplotlib."""

import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

T, S = 3, 5


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
