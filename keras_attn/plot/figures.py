"""Figures of attention scores: heat maps of one or many heads, and alignments between two texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from keras_attn.base.checks import check_axes
from keras_attn.base.optional import optional_module
from keras_attn.base.types import ArrayLike
from keras_attn.plot.fonts import Script, Tokens

if TYPE_CHECKING:
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

CELL = 0.3  # inches per score
PANEL = 1.2, 16.0  # minimum and maximum inches of a panel
LARGEST_FIGURE = 30.0  # inches
COLOURS = "magma"
FAINTEST = 0.02  # no line is drawn for lower scores


def heat_map(
    scores: ArrayLike,
    source_tokens: Tokens | None = None,
    target_tokens: Tokens | None = None,
    title: str | None = None,
) -> Figure:
    """Draws attention scores as heat maps, one per head, in colors from 0 to 1.

    A row shows the scores of a target token, a column those of a source token.

    Args:
        scores: `[T, S]`, or `[H, T, S]` for H heads; an array or a tensor.
        source_tokens: S tokens, or None for their positions; strings, or bytes in UTF-8.
        target_tokens: T tokens, or None for their positions.
        title: Title of the figure.

    Returns:
        A `matplotlib.figure.Figure` that is not registered with pyplot; save it with
        `figure.savefig(path)`. Its size grows with the number of tokens up to a maximum; larger figures
        do not label every token.

    Tokens may have any script that an installed font has; other characters are drawn as U+FFFD. Matplotlib
    lays out right-to-left scripts, in the correct order from version 3.11 on.

    Raises:
        ImportError: Without matplotlib.
        ValueError: For scores with other axes, or numbers of tokens that do not match the scores.

    Example:
    >>> import numpy as np
    >>> from keras_attn import plot
    >>> figure = plot.heat_map(np.eye(2), ["good", "morning"], ["guten", "Morgen"])
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['good', 'morning']

    References:
        Bahdanau et al. 2015, arXiv:1409.0473, figure 3.
    """
    scores = ops.convert_to_numpy(scores).astype("float32")
    heads = checked_scores(scores[None] if scores.ndim == 2 else scores, "HTS", source_tokens, target_tokens)
    num_heads, length, source_length = heads.shape
    columns = math.ceil(math.sqrt(num_heads))
    rows = math.ceil(num_heads / columns)
    limit = LARGEST_FIGURE / columns - 0.5
    width, height = (min(max(CELL * size, PANEL[0]), PANEL[1], limit) for size in (source_length, length))
    figure = new_figure(columns * (width + 0.3) + 2.5, rows * (height + 0.5) + 1.5)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[num_heads:]:
        panel.remove()
    for head, (panel, of_head) in enumerate(zip(panels.flat, heads)):
        image = panel.imshow(of_head, cmap=COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        if scores.ndim == 3:
            panel.set_title(f"head {head + 1}", fontsize=9)
        label_axis(panel.xaxis, source_tokens, source_length, width)
        label_axis(panel.yaxis, target_tokens, length, height)
        panel.tick_params(labelbottom=head + columns >= num_heads, labelleft=head % columns == 0)  # at the edges
    figure.supxlabel("source", fontsize=10)
    figure.supylabel("target", fontsize=10)
    figure.colorbar(
        image, ax=panels.flat[:num_heads], label="attention score", shrink=min(1, 4 / (rows * height)), aspect=25
    )
    set_title(figure, title)
    return figure


def alignment(scores: ArrayLike, source_tokens: Tokens, target_tokens: Tokens, title: str | None = None) -> Figure:
    """Draws two columns of tokens and lines between them, wider and darker for higher scores.

    Args:
        scores: `[T, S]`; an array or a tensor.
        source_tokens: S tokens, on the left.
        target_tokens: T tokens, on the right.
        title: Title of the figure.

    Returns and Raises as for `heat_map`.

    Example:
    >>> import numpy as np
    >>> from keras_attn import plot
    >>> figure = plot.alignment(np.eye(2), ["good", "morning"], ["guten", "Morgen"])
    >>> len(figure.axes[0].collections[0].get_segments())
    2
    """
    scores = ops.convert_to_numpy(scores).astype("float32")
    for name, tokens in (("source_tokens", source_tokens), ("target_tokens", target_tokens)):
        if tokens is None:
            raise ValueError(f"`{name}` must be tokens. Received: None.")
    checked_scores(scores, "TS", source_tokens, target_tokens)
    height = min(CELL * max(scores.shape), LARGEST_FIGURE)
    figure = new_figure(6, height + 1)
    from matplotlib.collections import LineCollection

    panel = figure.subplots()
    panel.set_axis_off()
    longest = max(scores.shape)
    font_size = min(11, height / longest * 72 * 0.75)
    places = []  # heights of the source tokens and of the target tokens, from the top down
    for x, side, tokens in ((0, "right", source_tokens), (1, "left", target_tokens)):
        script = Script(tokens)
        places.append((np.arange(len(tokens)) + 0.5) * longest / max(1, len(tokens)))
        for y, text in zip(places[-1], script.texts):
            panel.text(x + (0.03 if x else -0.03), y, text, ha=side, va="center", fontsize=font_size, **script.style)
    drawn = np.argwhere(scores >= FAINTEST)
    strengths = np.clip([scores[t, s] for t, s in drawn], 0, 1).astype("float32")
    lines = [[(0, places[0][s]), (1, places[1][t])] for t, s in drawn]
    colours = [("tab:blue", strength) for strength in strengths]
    panel.add_collection(LineCollection(lines, linewidths=0.5 + 3.5 * strengths, colors=colours, capstyle="round"))
    panel.set(xlim=(-0.02, 1.02), ylim=(longest, 0))
    set_title(figure, title)
    return figure


def checked_scores(
    scores: np.ndarray, letters: str, source_tokens: Tokens | None, target_tokens: Tokens | None
) -> np.ndarray:
    """Returns the scores, after checking their axes and the numbers of tokens."""
    sizes = check_axes({"scores": letters}, {"scores": scores})
    for name, tokens, letter in (("source_tokens", source_tokens, "S"), ("target_tokens", target_tokens, "T")):
        if tokens is not None and len(tokens) != sizes[letter]:
            raise ValueError(
                f"`{name}` must have a token for each of the {sizes[letter]} positions of the scores' axis {letter}. "
                f"Received: {len(tokens)} tokens, scores.shape={tuple(scores.shape)}."
            )
    if 0 in scores.shape:
        raise ValueError(f"`scores` must not be empty. Received: scores.shape={tuple(scores.shape)}.")
    return scores


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches, which is not registered with pyplot."""
    size = min(width, LARGEST_FIGURE), min(height, LARGEST_FIGURE)
    return optional_module("matplotlib.figure", "plot").Figure(figsize=size, layout="constrained")


def label_axis(axis: XAxis | YAxis, tokens: Tokens | None, count: int, inches: float) -> None:
    """Labels an axis of `count` cells with as many tokens as fit, or with positions."""
    from matplotlib.ticker import MaxNLocator

    if tokens is None:
        axis.set_major_locator(MaxNLocator(integer=True))
        return
    room = inches / count * 72  # points per cell
    font_size = min(10, max(5, 0.7 * room))
    every = math.ceil(1.2 * font_size / room)
    script = Script(tokens)
    is_upright = axis.axis_name == "x" and max(map(len, script.texts)) > 2
    axis.set_ticks(
        range(0, count, every),
        script.texts[::every],
        fontsize=font_size,
        rotation="vertical" if is_upright else "horizontal",
        **script.style,
    )


def set_title(figure: Figure, title: str | None) -> None:
    """Sets the title of a figure, if there is one."""
    if title is not None:
        script = Script(title.split("\n"), longest=len(title))
        figure.suptitle("\n".join(script.texts), **script.style)
