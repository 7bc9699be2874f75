"""What pytest collects: test files, and the package's doctests where the packages that they need are installed."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent
# What the doctests of these files need beside the package's own requirements.
DOCTESTS_NEED = {
    "keras_attn/plot/attention_maps.py": ("matplotlib",),
    "keras_attn/plot/figures.py": ("matplotlib",),
    "keras_attn/plot/texts.py": ("matplotlib",),
    "keras_attn/text/sentence_piece.py": ("tensorflow_text", "sentencepiece"),
    "keras_attn/text/word_piece.py": ("tensorflow_text",),
    "keras_attn/training/text_scores.py": ("sacrebleu",),
}


def pytest_ignore_collect(collection_path):
    """Ignores what is no test file under `tests`: helpers, and scripts for processes of their own."""
    no_test = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if no_test and ROOT / "tests" in collection_path.parents else None


def pytest_collection_modifyitems(items):
    """Skips the doctests whose optional packages are missing."""
    for item in items:
        file = item.path.relative_to(ROOT).as_posix()
        missing = [name for name in DOCTESTS_NEED.get(file, ()) if importlib.util.find_spec(name) is None]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"the example needs {', '.join(missing)}"))
