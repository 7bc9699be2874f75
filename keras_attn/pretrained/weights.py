"""Tables from our layers to the weights of a checkpoint: what is read, with which shape, and how it is changed.

A table is a dictionary from the path of a layer of our model (`"encoder.blocks.0.attention.in_projection"`) to an
entry. An entry knows the names and shapes of the checkpoint's weights, and returns the arrays of our layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np

if TYPE_CHECKING:
    from keras_attn.pretrained.checkpoint import Checkpoint

Shapes: TypeAlias = dict[str, tuple[int, ...]]
Read: TypeAlias = Callable[[str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Entry:
    """Base class of entries.

    Attributes:
        name: Name of their layer, or a tuple of names; `{i}` is the number of the block.
    """

    name: str | tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if isinstance(self.name, str) else self.name

    def of_block(self, i: int) -> Entry:
        """Returns the entry for block i."""
        names = tuple(name.replace("{i}", str(i)) for name in self.names)
        return dataclasses.replace(self, name=names)

    def shapes(self) -> Shapes:
        """Returns the shapes of the checkpoint's weights by name."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `shapes()`.")

    @property
    def optional(self) -> tuple[str, ...]:
        """The names of weights that may be missing, and are zero then."""
        return ()

    def arrays(self, read: Read) -> list[np.ndarray]:
        """Returns the arrays of our layer; `read` returns a weight by name."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `arrays(read)`.")


@dataclasses.dataclass(frozen=True)
class Linear(Entry):
    """`W [out, in]` and `b [out]` become kernel and bias; several maps are joined, and one may be a part of theirs.

    Attributes:
        inputs: Size of the inputs of their maps.
        outputs: Size of the outputs of each of their maps, or one size per map.
        bias: Whether they have a bias.
        part: `(k, n)` for part k of n equal parts of their outputs, None for all.
    """

    inputs: int
    outputs: int | tuple[int, ...]
    bias: bool = True
    part: tuple[int, int] | None = None

    def shapes(self) -> Shapes:
        wanted: Shapes = {}
        sizes = (self.outputs,) * len(self.names) if isinstance(self.outputs, int) else self.outputs
        for name, outputs in zip(self.names, sizes, strict=True):
            wanted[f"{name}.weight"] = (outputs, self.inputs)
            if self.bias:
                wanted[f"{name}.bias"] = (outputs,)
        return wanted

    def arrays(self, read: Read) -> list[np.ndarray]:
        kinds = ("weight", "bias") if self.bias else ("weight",)
        joined = (np.concatenate([self._part(read(f"{name}.{kind}")) for name in self.names]) for kind in kinds)
        return [array.T for array in joined]

    def _part(self, array: np.ndarray) -> np.ndarray:
        return array if self.part is None else np.split(array, self.part[1])[self.part[0]]


@dataclasses.dataclass(frozen=True)
class InOut(Entry):
    """`W [in, out]` and `b [out]`, as GPT-2 stores its linear maps, become kernel and bias."""

    inputs: int
    outputs: int

    def shapes(self) -> Shapes:
        return {f"{self.names[0]}.weight": (self.inputs, self.outputs), f"{self.names[0]}.bias": (self.outputs,)}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(name) for name in self.shapes()]


@dataclasses.dataclass(frozen=True)
class Norm(Entry):
    """Scale `[size]`, and a bias `[size]` if `bias`.

    Attributes:
        offset: Added to the scale: 1 for the norms of Gemma, which multiply by one more than their weight.
        factor: Multiplies the scale, where the family multiplies the outputs of the norm by a number.
    """

    size: int
    bias: bool = True
    offset: float = 0.0
    factor: float = 1.0

    def shapes(self) -> Shapes:
        kinds = ("weight", "bias") if self.bias else ("weight",)
        return {f"{name}.{kind}": (self.size,) for name in self.names for kind in kinds}

    def arrays(self, read: Read) -> list[np.ndarray]:
        scale, *bias = (read(name) for name in self.shapes())
        scale = scale + np.float32(self.offset) if self.offset else scale
        return [scale * np.float32(self.factor) if self.factor != 1 else scale, *bias]


@dataclasses.dataclass(frozen=True)
class Rows(Entry):
    """Embeddings `[rows, size]`.

    Attributes:
        copies: Names of further weights that may hold the same embeddings, which must then be equal.
    """

    rows: int
    size: int
    copies: tuple[str, ...] = ()

    def shapes(self) -> Shapes:
        return {f"{name}.weight": (self.rows, self.size) for name in self.names}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(name) for name in self.shapes()]


@dataclasses.dataclass(frozen=True)
class Vector(Entry):
    """One vector `[size]`, by its full name."""

    size: int

    def shapes(self) -> Shapes:
        return {name: (self.size,) for name in self.names}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(name) for name in self.names]


@dataclasses.dataclass(frozen=True)
class LogitsBias(Entry):
    """The bias of logits `[size]`, stored as `[1, size]`, by its full name; it may be missing."""

    size: int

    @property
    def optional(self) -> tuple[str, ...]:
        return self.names

    def shapes(self) -> Shapes:
        return {name: (1, self.size) for name in self.names}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(name)[0] for name in self.names]


@dataclasses.dataclass(frozen=True)
class BiasedLogits(Entry):
    """The matrix `[out, in]` of logits and their bias `[1, out]`, which may be missing, by their full names."""

    inputs: int
    outputs: int

    @property
    def optional(self) -> tuple[str, ...]:
        return self.names[1:]

    def shapes(self) -> Shapes:
        return {self.names[0]: (self.outputs, self.inputs), self.names[1]: (1, self.outputs)}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(self.names[0]).T, read(self.names[1])[0]]


Table: TypeAlias = dict[str, Entry]


def blocks(number: int, ours: str, table: Mapping[str, Entry]) -> Table:
    """Returns a table for all blocks: `ours` is the path of block `{i}`, to which the keys of `table` are relative."""
    return {
        f"{ours.replace('{i}', str(i))}.{path}": entry.of_block(i)
        for i in range(number)
        for path, entry in table.items()
    }


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
