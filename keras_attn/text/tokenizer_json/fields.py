"""Reading the sections of a tokenizer.json: what is unknown is refused by name."""

from __future__ import annotations

from typing import Any, NoReturn, TypeAlias

from keras_attn.base.tensors import short_repr

Section: TypeAlias = dict[str, Any]
"""A JSON object."""

REQUIRED = object()


def refuse(field: str, value: object, must: str = "be one that this library knows") -> NoReturn:
    """Raises a `ValueError` that names a field of the file and its value."""
    raise ValueError(f"`{field}` of the tokenizer.json must {must}. Received: {field}={short_repr(value)}.")


def read(section: Section, path: str, **defaults: object) -> Section:
    """Returns the values of a section, with defaults; `REQUIRED` is a default that must be given.

    Raises:
        ValueError: If the section has other keys, or a required one is missing.
    """
    if not isinstance(section, dict):
        refuse(path, section, "be an object")
    for key in section:
        if key != "type" and key not in defaults:
            refuse(f"{path}.{key}", section[key])
    found = {key: section.get(key, default) for key, default in defaults.items()}
    for key, value in found.items():
        if value is REQUIRED:
            refuse(f"{path}.{key}", None, "be given")
    return found


def kind(section: Section, path: str) -> str:
    """Returns the type of a section."""
    if not isinstance(section, dict) or not isinstance(section.get("type"), str):
        refuse(f"{path}.type", section if not isinstance(section, dict) else section.get("type"), "be a name")
    return section["type"]


def metaspace_fields(section: Section, path: str) -> tuple[int, str, bool]:
    """Returns of a section `Metaspace` the code point, where one more is added, and whether it cuts."""
    fields = read(section, path, replacement="▁", prepend_scheme=None, add_prefix_space=None, split=True, str_rep=None)
    scheme = fields["prepend_scheme"] or ("never" if fields["add_prefix_space"] is False else "always")
    if scheme not in ("always", "first", "never"):
        refuse(f"{path}.prepend_scheme", scheme)
    return ord(fields["replacement"]), scheme, bool(fields["split"])
