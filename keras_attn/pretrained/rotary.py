"""Rotary positions from the settings of a config, in the older form (`rope_scaling`) or the current one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_attn.positions import LinearScaling, Llama3Scaling, Rotary, YarnScaling
from keras_attn.positions.scaling import Scaling

NAMES = {  # from names of a config to those of our scalings
    "factor": "factor",
    "original_max_position_embeddings": "original_length",
    "low_freq_factor": "low_factor",
    "high_freq_factor": "high_factor",
    "beta_fast": "fast",
    "beta_slow": "slow",
    "attention_factor": "attention_factor",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
    "truncate": "truncate",
}
SCALINGS: dict[str, tuple[Callable[..., Scaling], tuple[str, ...]]] = {  # with the names that each reads
    "linear": (LinearScaling, ("factor",)),
    "llama3": (
        Llama3Scaling,
        ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    ),
    "yarn": (
        YarnScaling,
        (
            *("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
            *("attention_factor", "mscale", "mscale_all_dim", "truncate"),
        ),
    ),
}
DEFAULTS: dict[str, Any] = {"rope_parameters": None, "rope_theta": 10000.0, "rope_scaling": None}
"""The settings that `rotary` reads, with their defaults."""


def rotary(s: Mapping[str, Any], kind: str | None = None, base: str = "rope_theta") -> Rotary:
    """Returns the rotary positions of a model, or of one kind of its layers.

    Args:
        s: Settings with the names of `DEFAULTS` and `max_position_embeddings`.
        kind: Key of `rope_parameters` for a kind of layers, where each kind has its own.
        base: Name of the setting with the base that `rope_parameters` may leave out.

    Raises:
        ValueError: For a type of scaling that is not known, or settings that it does not read.
    """
    given = s["rope_scaling"] or s["rope_parameters"] or {}
    rope = dict(given.get(kind) or {} if kind in given else given)
    name = rope.pop("rope_type", None) or rope.pop("type", None) or "default"
    rope.pop("type", None)
    theta, fraction = rope.pop("rope_theta", None), rope.pop("partial_rotary_factor", None)
    scaling = None if name == "default" and not rope else scaling_of(name, rope, s["max_position_embeddings"])
    return Rotary(float(s[base] if theta is None else theta), 1.0 if fraction is None else fraction, scaling)


def scaling_of(name: str, rope: dict[str, Any], length: int) -> Scaling:
    """Returns a scaling by its type and its other settings; `length` is the model's number of positions."""
    if name not in SCALINGS:
        raise ValueError(f"`rope_type` of config.json must be default or one of {sorted(SCALINGS)}. Received: {name}.")
    kind, names = SCALINGS[name]
    unknown = sorted(set(rope) - set(names))
    if unknown:
        raise ValueError(f"Rotary positions of the type {name} have the settings {names}. Received also: {unknown}.")
    if "original_max_position_embeddings" in names:
        rope.setdefault("original_max_position_embeddings", length)
    return kind(**{NAMES[key]: value for key, value in rope.items() if value is not None})
