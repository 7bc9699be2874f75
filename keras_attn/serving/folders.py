"""Version folders: a draft that is removed unless it is published, and the rename that publishes it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import threading
import uuid
from collections.abc import Iterator
from types import FrameType

from keras_attn.base.checks import check_number


def versions(directory: str | os.PathLike[str]) -> list[int]:
    """Returns the version numbers in a folder, in increasing order."""
    directory = pathlib.Path(directory)
    folders = directory.iterdir() if directory.is_dir() else ()
    return sorted(int(folder.name) for folder in folders if folder.name.isdecimal())


def version_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the folder of a SavedModel: `path` itself, or the newest version in it.

    Raises:
        ValueError: If there is none.
    """
    path = pathlib.Path(path)
    if (path / "saved_model.pb").exists():
        return path
    found = versions(path)
    if not found:
        raise ValueError(f"`path` must be a SavedModel or a folder of numbered versions. Received: path={str(path)!r}.")
    return path / str(found[-1])


def check_version(version: int | None, directory: str | os.PathLike[str]) -> None:
    """Raises a `ValueError` unless a version is None, or a positive integer that does not exist yet."""
    if version is None:
        return
    check_number("version", version, int, must="be a positive integer or None", at_least=1)
    if (pathlib.Path(directory) / str(version)).exists():
        raise ValueError(f"`version` must be a new one. Received: version={version}, which {directory} has already.")


@contextlib.contextmanager
def draft(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new folder in `directory`, and removes it at the end of the block unless it was published.

    Its name is not a number, so that a server ignores it. It is removed after an exception and after
    SIGTERM too.
    """
    made = [parent for parent in (directory, *directory.parents) if not parent.exists()]
    folder = directory / f".draft-{uuid.uuid4().hex}"
    with ends_by_exception():
        try:
            folder.mkdir(parents=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for parent in made:
                with contextlib.suppress(OSError):  # not empty: something was published
                    parent.rmdir()


def publish(folder: pathlib.Path, directory: pathlib.Path, version: int | None) -> pathlib.Path:
    """Renames a finished draft to its version, the next free one if None, and returns its path.

    Raises:
        ValueError: If another export has published the same version in the meantime.
    """
    while True:
        place = directory / str(version or max(versions(directory), default=0) + 1)
        try:
            os.rename(folder, place)
            return place
        except OSError as error:
            if not place.exists():
                raise
            if version is not None:
                raise ValueError(
                    f"`version` must be a new one. Received: version={version}, created in the meantime."
                ) from error


@contextlib.contextmanager
def ends_by_exception() -> Iterator[None]:
    """Turns SIGTERM into `SystemExit`, in the main thread and where no other handler is set."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not ours:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
