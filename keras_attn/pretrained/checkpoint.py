"""The weights of a folder: names and shapes from the headers of safetensors files, arrays one at a time."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping

import ml_dtypes  # noqa: F401 - safetensors reads bfloat16 as its type
import numpy as np

from keras_attn.base.optional import optional_module
from keras_attn.base.tensors import short_repr
from keras_attn.pretrained.files import read_json

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
LEGACY = {"gamma": "weight", "beta": "bias"}  # names of norms in checkpoints of Google's BERT
FLOATS = "F64", "F32", "F16", "BF16"


class Checkpoint:
    """The weights of one folder by name. Nothing is read before `read`.

    Args:
        folder: The folder with `model.safetensors`, its shards, or other `*.safetensors` files.
        prefixes: Removed from the start of names: a model with a head is saved with the name of its encoder before
            the names of the encoder's weights.
        fallbacks: Dictionary from a name to that of a weight that takes its place if it is missing, or several of
            which the first one that is there does: checkpoints contain tied weights under one of their names.

    Attributes:
        shapes: The shapes of all weights by name, without prefixes and in the current spelling.

    Raises:
        ValueError: If there are no safetensors files (the message shows how to save pickled weights as such),
            files of the index are missing, or two weights have the same name.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        prefixes: tuple[str, ...] = (),
        fallbacks: Mapping[str, str | tuple[str, ...]] | None = None,
    ) -> None:
        self.folder = folder
        self.fallbacks = dict(fallbacks or {})
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, tuple[pathlib.Path, str, str]] = {}
        open_file = optional_module("safetensors", "pretrained").safe_open
        for path in weight_files(folder):
            with open_file(path, "np") as file:
                for theirs in file.keys():  # noqa: SIM118 - not a dictionary
                    name = current_name(theirs, prefixes)
                    if name in self.shapes:
                        raise ValueError(
                            f"{folder} must hold each weight once. Received: {theirs} and {self._places[name][1]}."
                        )
                    header = file.get_slice(theirs)
                    self.shapes[name] = tuple(header.get_shape())
                    self._places[name] = path, theirs, header.get_dtype()

    def find(self, name: str) -> str:
        """Returns `name`, or the name of the weight that takes its place."""
        others = self.fallbacks.get(name, ())
        names = (name, others) if isinstance(others, str) else (name, *others)
        return next((each for each in names if each in self.shapes), name)

    def read(self, name: str) -> np.ndarray:
        """Returns a weight in float32 (float64 stays); raises a `ValueError` for dtypes that are not floats."""
        path, theirs, dtype = self._places[self.find(name)]
        if dtype not in FLOATS:
            raise ValueError(f"{theirs} of {path} must be floats, not quantised. Received: {dtype}.")
        with optional_module("safetensors", "pretrained").safe_open(path, "np") as file:
            array = file.get_tensor(theirs)
        return array if array.dtype == np.float64 else array.astype(np.float32)

    def equal(self, name: str, other: str) -> bool:
        """Returns whether two weights are equal, or one of them is missing."""
        if name not in self.shapes or other not in self.shapes:
            return True
        return self.shapes[name] == self.shapes[other] and np.array_equal(self.read(name), self.read(other))


def current_name(name: str, prefixes: tuple[str, ...]) -> str:
    """Returns a weight's name without a prefix and in the current spelling."""
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    stem, _, last = name.rpartition(".")
    return f"{stem}.{LEGACY[last]}" if last in LEGACY and "norm" in stem.lower() else name


def weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the safetensors files of a folder; raises a `ValueError` if there are none or some are missing."""
    if (folder / SINGLE).exists():
        files = [folder / SINGLE]
    elif (folder / INDEX).exists():
        files = [folder / name for name in sorted(set(read_json(folder / INDEX)["weight_map"].values()))]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [path.name for path in files if not path.exists()]
    if missing:
        raise ValueError(f"{folder} must hold the files of {INDEX}. Missing: {missing}.")
    if not files:
        found = sorted(
            path.name for path in folder.iterdir() if re.search(r"\.(bin|pt|pth|ckpt|h5|msgpack)$", path.name)
        )
        raise ValueError(
            f"{folder} must hold its weights as *.safetensors; pickled files are not read, since they can run code. "
            f"Save them once with transformers: `AutoModel.from_pretrained({str(folder)!r}).save_pretrained("
            f"{str(folder)!r})`, with the class of the task for a model with a head, for example "
            f"`AutoModelForSequenceClassification`. Received: {short_repr(found)}."
        )
    return files
