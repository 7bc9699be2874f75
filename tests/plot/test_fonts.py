"""Tokens of every script are drawn without a warning, by the fonts that have them."""

import numpy as np
import pytest

from keras_attn import plot
from keras_attn.plot import fonts

from .drawing import draw

pytestmark = pytest.mark.tensorflow

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
