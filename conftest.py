"""What pytest collects and skips: test files by their markers, doctests by the packages that they need."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent
# What the doctests of these files need beside the package's own requirements.
DOCTESTS_NEED = {
    "keras_attn/plot/attention_maps.py": ("matplotlib",),
    "keras_attn/plot/figures.py": ("matplotlib",),
    "keras_attn/plot/texts.py": ("matplotlib",),
    "keras_attn/text/pretrained_tokenizer.py": ("tensorflow_text",),
    "keras_attn/text/sentence_piece.py": ("tensorflow_text", "sentencepiece"),
    "keras_attn/text/word_piece.py": ("tensorflow_text",),
    "keras_attn/training/text_scores.py": ("sacrebleu",),
}


def pytest_ignore_collect(collection_path):
    """Ignores what is no test file under `tests`: helpers, and scripts for processes of their own."""
    no_test = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if no_test and ROOT / "tests" in collection_path.parents else None


def pytest_collection_modifyitems(items):
    """Skips tests marked `tensorflow` on other backends, and doctests whose optional packages are missing."""
    import keras  # after tests/conftest.py has set the environment

    backend = keras.config.backend()
    for item in items:
        if isinstance(item, pytest.DoctestItem):  # the examples print tensors as TensorFlow does
            item.add_marker(pytest.mark.tensorflow)
        if backend != "tensorflow" and item.get_closest_marker("tensorflow"):
            item.add_marker(pytest.mark.skip(reason=f"needs the TensorFlow backend, this is {backend}"))
        file = item.path.relative_to(ROOT).as_posix()
        missing = [name for name in DOCTESTS_NEED.get(file, ()) if importlib.util.find_spec(name) is None]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"the example needs {', '.join(missing)}"))
