"""Imports of optional packages, which the library's extras install."""

import importlib
from types import ModuleType


def optional_module(name: str, extra: str) -> ModuleType:
    """Returns a module of a package that is not installed by default.

    Args:
        name: Dotted name of the module.
        extra: The library's extra that installs the package.

    Raises:
        ImportError: If it cannot be imported; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(f'`{package}` must be installed: pip install "keras-attn[{extra}]".') from error
