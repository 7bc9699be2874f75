"""A folder belongs to one training: its arguments are kept in it, and others are refused."""

import json
import pathlib


def check_arguments(folder, arguments, may_change):
    """Raises a `ValueError` if a folder holds a training with other arguments, but for those that may change."""
    path = folder / "arguments.json"
    if not path.exists():
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    for name, value in as_json(arguments).items():
        if name not in may_change and value != known.get(name):
            raise ValueError(
                f"{folder} holds a training with {name}={known.get(name)!r}; remove it to start anew. "
                f"Received: {name}={value!r}."
            )


def keep_arguments(folder, arguments):
    """Writes the arguments of the training that a folder is about to hold."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "arguments.json").write_text(json.dumps(as_json(arguments), indent=1), encoding="utf-8")


def as_json(arguments):
    """Returns parsed arguments as a dictionary that JSON can hold."""
    return {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in vars(arguments).items()}
