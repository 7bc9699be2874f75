"""Version folders: a draft that vanishes unless it is finished, and the rename that makes it visible."""

import contextlib
import os
import pathlib
import shutil
import signal
import threading
import uuid

from keras_attn.base.checks import check_number


def versions(directory):
    """Returns the version numbers in a folder, rising."""
    directory = pathlib.Path(directory)
    folders = directory.iterdir() if directory.is_dir() else ()
    return sorted(int(folder.name) for folder in folders if folder.name.isdecimal())


def version_folder(path):
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


def check_version(version, directory):
    """Raises a `ValueError` unless a version is None, or a positive integer that does not exist yet."""
    if version is None:
        return
    check_number("version", version, int, must="be a positive integer or None", at_least=1)
    if (pathlib.Path(directory) / str(version)).exists():
        raise ValueError(f"`version` must be a new one. Received: version={version}, which {directory} has already.")


@contextlib.contextmanager
def draft(directory):
    """Gives a new folder in `directory` for as long as the block runs; what is not published by then is removed.

    Its name is no number, so that a server passes it over. A polite request to end (SIGTERM)
    leaves as little behind as an exception does.
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


def publish(folder, directory, version):
    """Renames a finished draft to its version, the next free one if None, and returns its path.

    Raises:
        ValueError: If another export was faster with the same version.
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
                    f"`version` must be a new one. Received: version={version}, made meanwhile."
                ) from error


@contextlib.contextmanager
def ends_by_exception():
    """Turns SIGTERM into `SystemExit` where nobody else has a say in it; only the main thread hears signals."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not ours:
        yield
        return

    def end(number, frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
