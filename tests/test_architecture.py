"""The house rules that a machine can check: floors, cycles, who may import TensorFlow, sizes."""

import ast
import pathlib
import re

import pytest

import keras_attn as ka

ROOT = pathlib.Path(ka.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))
FLOORS = {
    "checks": 0,
    "slots": 0,
    "special_ids": 0,
    "masks": 0,
    "kernels": 0,
    "config": 0,
    "composite": 1,
    "norms": 1,
    "cache": 1,
    "dot_product": 1,
    "positions": 1,
    "feed_forward": 1,
    "scores": 1,
    "cells": 1,
    "heads": 2,
    "self_attention": 2,
    "memory_attention": 2,
    "recurrent": 2,
    "residual": 3,
    "sublayers": 3,
    "blocks": 3,
    "stacks": 3,
    "decoding": 4,
    "models": 4,
    "convert": 4,
    "source_checks": 4,
    "training": 4,
    "text": 5,
    "data": 5,
    "serving": 5,
    "plot": 5,
}
TENSORFLOW_ROOMS = ("kernels/backend/tensorflow.py",)


def room(path):
    """The floor's name of a file: its first part below the package."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_name(path):
    """The dotted name of a file's module."""
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported(path):
    """The modules of `path`'s imports: those of the package, and the top names of all others."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = {module_name(file) for file in FILES}
            yield from (name if name in modules else node.module for name in names)


def own_imports(path):
    return {name for name in imported(path) if name.split(".")[0] == "keras_attn"}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path):
    if path == ROOT / "__init__.py":
        pytest.skip("the roof sees everything")
    floor = FLOORS[room(path)]
    for name in own_imports(path):
        assert FLOORS[name.split(".")[1]] <= floor, f"{module_name(path)} imports {name}"


def test_no_cycles():
    graph = {module_name(path): own_imports(path) for path in FILES if path != ROOT / "__init__.py"}

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        for other in graph.get(name, ()):
            if other != name:
                visit(other, [*trail, name])

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_tensorflow_only_where_allowed(path):
    tops = {name.split(".")[0] for name in imported(path)}
    allowed = path.relative_to(ROOT).as_posix() in TENSORFLOW_ROOMS or FLOORS.get(room(path)) == 5
    assert allowed or "tensorflow" not in tops


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_every_file_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_asserts_no_hasattr_no_private_keras(path):
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}"
    assert not re.search(r"\bhasattr\(|type\(self\) is|keras\.src", text)


def test_public_names_are_there():
    assert all(getattr(ka, name) is not None for name in ka.__all__)


def test_sizes_are_reported(capsys):
    """Prints the lines of each file and its longest function; a reader judges."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        longest = max(functions, key=lambda node: node.end_lineno - node.lineno, default=None)
        lines = longest.end_lineno - longest.lineno + 1 if longest else 0
        with capsys.disabled():
            print(f"\n{module_name(path):45} {text.count(chr(10)):4} lines, longest function {lines:3}", end="")
    assert FILES
