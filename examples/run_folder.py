"""A folder belongs to one training: it contains the arguments, and other arguments are refused."""

import json
import pathlib

NAME = "arguments.json"


def check_arguments(folder, arguments, may_change, what):
    """Raises a `ValueError` if the training in a folder had other arguments, except for those that may change.

    The message says to remove `what` to start again.
    """
    path = folder / NAME
    if not path.exists():
        raise ValueError(f"{folder} contains a training with unknown arguments; remove {what} to start again.")
    known = json.loads(path.read_text(encoding="utf-8"))
    for name, value in as_json(arguments).items():
        if name not in may_change and value != known.get(name):
            raise ValueError(
                f"{folder} contains a training with {name}={known.get(name)!r}; remove {what} to start again. "
                f"Received: {name}={value!r}."
            )


def keep_arguments(folder, arguments):
    """Writes the arguments of a training to its folder, in one atomic step."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{NAME}.draft"
    draft.write_text(json.dumps(as_json(arguments), indent=1), encoding="utf-8")
    draft.replace(folder / NAME)


def as_json(arguments):
    """Returns parsed arguments as a dictionary that JSON can represent."""
    return {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in vars(arguments).items()}
