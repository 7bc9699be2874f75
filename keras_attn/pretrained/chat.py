"""The chat template of a folder: what stands before and behind one turn of a user."""

from __future__ import annotations

import json
import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

from keras_attn.base.optional import optional_module
from keras_attn.pretrained.files import read_json
from keras_attn.text.chat import Chat

PROBES = "probe", "A probe\nof two lines: {{ 1 }} <b>&amp;</b>"
SPECIAL = "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"
GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")  # marks of training, which print nothing


def chat_of(folder: pathlib.Path, settings: Mapping[str, Any]) -> Chat | None:
    """Returns the chat of a folder; None without a template, and with a warning if it is not of this form.

    The template is rendered by jinja2 in a sandbox, as transformers does it, but without the date of today.

    Args:
        folder: The folder of the tokenizer.
        settings: Contents of tokenizer_config.json.
    """
    template = template_of(folder, settings)
    if template is None:
        return None
    sandbox = sandboxed()
    try:
        return derived_chat(template, settings, sandbox)
    except Exception as error:  # a template may raise anything
        warnings.warn(
            f"The chat template is not text before and behind one turn of a user, so prompts are plain texts: {error}",
            stacklevel=3,
        )
        return None


def template_of(folder: pathlib.Path, settings: Mapping[str, Any]) -> str | None:
    """Returns the default chat template of a folder, or None."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = read_json(folder / "chat_template.json", optional=True).get("chat_template")
    found = settings.get("chat_template") if found is None else found
    if isinstance(found, list):  # several templates by name
        found = {each["name"]: each["template"] for each in found}.get("default")
    return found


def derived_chat(template: str, settings: Mapping[str, Any], sandbox: Any) -> Chat:
    """Returns the chat of a template; raises a `ValueError` if another text changes more than the text."""
    rendered = renderer(template, settings, sandbox)
    prefix, found, suffix = rendered(PROBES[0]).partition(PROBES[0])
    if not found or PROBES[0] in suffix:
        raise ValueError("it does not write the text exactly once.")
    if rendered(PROBES[1]) != f"{prefix}{PROBES[1]}{suffix}":
        raise ValueError("it changes the text.")
    spaced = " \t probe \n\n"
    if rendered(spaced) == f"{prefix}{spaced.strip()}{suffix}":
        return Chat(prefix, suffix, strips=True)
    if rendered(spaced) != f"{prefix}{spaced}{suffix}":
        raise ValueError("it changes the spaces around the text.")
    return Chat(prefix, suffix)


def sandboxed() -> Any:
    """Returns jinja2's environment for templates that are not trusted; raises an `ImportError` without jinja2."""
    environment = optional_module("jinja2.sandbox", "pretrained").ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    return environment


def renderer(template: str, settings: Mapping[str, Any], sandbox: Any) -> Any:
    """Returns a function from the text of a user to the prompt of the template."""
    compiled = sandbox.from_string(GENERATION.sub("", template))
    tokens = {name: token for name in SPECIAL if (token := settings.get(name)) is not None}
    tokens = {name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items()}

    def rendered(text: str) -> str:
        messages = [{"role": "user", "content": text}]
        return compiled.render(messages=messages, add_generation_prompt=True, tools=None, documents=None, **tokens)

    return rendered


def to_json(value: object, indent: int | None = None, **named: Any) -> str:
    """Returns a value as JSON, for templates: unlike jinja2's own filter, without escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent, **named)


def raise_exception(message: str) -> None:
    """Raises the error of a template."""
    raise ValueError(message)
