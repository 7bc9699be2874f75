"""The JSON files of a folder."""

from __future__ import annotations

import json
import pathlib
from typing import Any


def read_json(path: pathlib.Path, optional: bool = False) -> Any:
    """Returns the contents of a JSON file, `{}` for a missing optional one; raises a `ValueError` that names it."""
    if not path.is_file():
        if optional:
            return {}
        raise ValueError(f"{path.parent} must hold {path.name}. Received: a folder without it.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also of the encoding
        raise ValueError(f"{path} must be JSON in UTF-8. Received: {error}") from error
