"""The weights of a checkpoint: checked against a table, and written into a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_attn.pretrained.tables import Entry, Read, Rows, Table

if TYPE_CHECKING:
    from keras_attn.pretrained.checkpoint import Checkpoint


def check_weights(table: Table, checkpoint: Checkpoint, is_known: Callable[[str], bool] = lambda name: False) -> None:
    """Raises a `ValueError` for missing weights, wrong shapes, and left-over weights that are not known.

    Args:
        table: The weights that a model reads.
        checkpoint: The weights that there are.
        is_known: Whether a weight that the model does not read may be there, by its name.
    """
    wanted = {name: shape for entry in table.values() for name, shape in entry.shapes().items()}
    optional = {name for entry in table.values() for name in entry.optional}
    wanted = {name: shape for name, shape in wanted.items() if name not in optional or name in checkpoint.shapes}
    missing = [name for name in wanted if checkpoint.find(name) not in checkpoint.shapes]
    if missing:
        raise ValueError(f"{checkpoint.folder} must hold the weights {listed(missing)}, which are missing.")
    found = {name: checkpoint.shapes[checkpoint.find(name)] for name in wanted}
    wrong = [f"{name} {found[name]}, expected {wanted[name]}" for name in wanted if found[name] != wanted[name]]
    if wrong:
        raise ValueError(
            f"{checkpoint.folder} must hold weights of the shapes of its settings. Received: {listed(wrong)}."
        )
    check_copies(table, checkpoint)
    used = {checkpoint.find(name) for name in wanted}
    used |= {copy for entry in table.values() if isinstance(entry, Rows) for copy in entry.copies}
    left = sorted(name for name in checkpoint.shapes if name not in used and not is_known(name))
    if left:
        raise ValueError(f"{checkpoint.folder} must hold known weights only. Received in addition: {listed(left)}.")


def check_copies(table: Table, checkpoint: Checkpoint) -> None:
    """Raises a `ValueError` for a copy of embeddings that differs from them, since the model has them once."""
    for entry in table.values():
        for copy in entry.copies if isinstance(entry, Rows) else ():
            if not checkpoint.equal(copy, f"{entry.names[0]}.weight"):
                raise ValueError(
                    f"{checkpoint.folder} must hold equal weights {entry.names[0]}.weight and {copy}. "
                    "Received: different ones."
                )


def assign_weights(model: keras.Model, table: Table, checkpoint: Checkpoint, verbose: int = 0) -> None:
    """Sets the weights of a model from a checkpoint, layer by layer; `verbose=1` shows a progress bar."""
    progress = keras.utils.Progbar(len(table), verbose=verbose, unit_name="layer") if verbose else None
    for path, entry in table.items():
        variables, arrays = layer_at(model, path).weights, entry.arrays(reader(entry, checkpoint))
        shapes = [tuple(variable.shape) for variable in variables]
        if shapes != [array.shape for array in arrays]:
            raise ValueError(
                f"`{path}` has weights of the shapes {shapes}. Received: {[array.shape for array in arrays]} of "
                f"{entry.names}."
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        if progress is not None:
            progress.add(1)


def reader(entry: Entry, checkpoint: Checkpoint) -> Read:
    """Returns a function that reads a weight of an entry by name; optional ones that are missing are zero."""
    zeros = {name: entry.shapes()[name] for name in entry.optional if name not in checkpoint.shapes}
    return lambda name: np.zeros(zeros[name], "float32") if name in zeros else checkpoint.read(name)


def layer_at(model: keras.Model, path: str) -> keras.layers.Layer:
    """Returns the layer at a path: the name of a layer of the model, then attributes and indices of lists."""
    first, *rest = path.split(".")
    found = model.get_layer(first)
    for part in rest:
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    return found


def listed(names: Sequence[str], most: int = 8) -> str:
    """Returns names for a message, at most `most` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
