"""Normalizers and pre-tokenizers are stages: functions from segments to segments, made from sections by their types."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from keras_attn.text.tokenizer_json.fields import Section, kind, refuse
from keras_attn.text.tokenizer_json.segments import Segments

Stage: TypeAlias = Callable[[Segments], Segments]
MakeStage: TypeAlias = Callable[[Section, str], Stage]
"""From a section and its path in the file to its stage."""


def stage(section: Section | None, path: str, kinds: Mapping[str, MakeStage]) -> Stage:
    """Returns the stage of a section by its type, or raises a `ValueError` that names what is unknown."""
    if section is None:
        return lambda segments: segments
    name = kind(section, path)
    if name not in kinds:
        refuse(f"{path}.type", name)
    return kinds[name](section, path)


def in_turn(sections: Sequence[Section], path: str, make: MakeStage) -> Stage:
    """Returns the stage that applies those of several sections one after the other."""
    steps = [make(section, f"{path}[{index}]") for index, section in enumerate(sections)]
    return lambda segments: functools.reduce(lambda done, step: step(done), steps, segments)
