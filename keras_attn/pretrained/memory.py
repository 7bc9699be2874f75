"""The memory that a model needs and that there is."""

from __future__ import annotations

import math
import pathlib

import keras

from keras_attn.base.types import DType
from keras_attn.pretrained.checkpoint import Checkpoint
from keras_attn.pretrained.tables import Table

MACHINE = pathlib.Path("/proc/meminfo")
GROUP = pathlib.Path("/sys/fs/cgroup")  # of a container


def check_memory(table: Table, checkpoint: Checkpoint, dtype: DType) -> None:
    """Raises a `ValueError` if a model's weights need more memory than there is.

    What the model needs is known from the headers of the files: all of its weights, and the largest one a second
    time, which is read in float32.

    Args:
        table: The weights that the model reads.
        checkpoint: The weights of the folder.
        dtype: Dtype policy of the model, or None for Keras' global one.
    """
    numbers = [math.prod(shape) for entry in table.values() for shape in entry.shapes().values()]
    policy = keras.dtype_policies.get(dtype) if dtype is not None else keras.config.dtype_policy()
    size = {"float64": 8, "float32": 4}.get(policy.variable_dtype, 2)
    needed, free = size * sum(numbers) + 4 * max(numbers, default=0), available_memory()
    if free is not None and needed > free:
        raise ValueError(
            f"`folder` must hold a model that fits into memory: {sum(numbers):,} parameters in "
            f"{policy.variable_dtype} need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. With "
            f"dtype='bfloat16' it needs half of float32. Received: {checkpoint.folder}."
        )


def available_memory() -> int | None:
    """Returns how many bytes this process can still use, or None where the system does not say."""
    limits = []
    free = field(MACHINE, "MemAvailable:")
    if free is not None:
        limits.append(1024 * free)
    used = field(GROUP / "memory.stat", "anon")  # without the cache of files, which gives way
    most = (GROUP / "memory.max").read_text().strip() if used is not None else "max"
    if most.isdigit() and used is not None:
        limits.append(int(most) - used)
    return min(limits, default=None)


def field(path: pathlib.Path, name: str) -> int | None:
    """Returns the number behind a name in a file of such lines, or None."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), None)
